"""Trained classifiers as files of their own, and predictions with them."""
