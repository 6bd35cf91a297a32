"""Specs of jobs: resolved settings as plain JSON, one module per file of rules."""
