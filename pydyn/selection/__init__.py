"""Which images an epoch trains on. Knows nothing of how a model trains; needs NumPy only."""
