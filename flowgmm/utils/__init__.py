"""Errors, files, progress, seeds and signals."""
