"""One loader for each format of raw files."""
