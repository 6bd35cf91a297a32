"""The training loop of all neural methods."""
