"""From a Run to its history, summary and weights."""
