"""The studies' networks."""
