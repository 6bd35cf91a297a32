"""Errors, files, seeds and signals."""
