"""Literal models, which the fast ones are held to."""
