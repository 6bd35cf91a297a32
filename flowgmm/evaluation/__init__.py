"""Metrics, calibration and verdicts."""
