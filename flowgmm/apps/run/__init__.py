"""Snakemake with a screen of its own: bars with time left instead of its log."""
