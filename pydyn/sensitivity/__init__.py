"""Which filters of a trained tiny network matter, and how that shows: pruning, activation maps, similarity, failures.

Source: the thesis on the sensitivity of small CNNs, chapters 2 and 3.
"""
