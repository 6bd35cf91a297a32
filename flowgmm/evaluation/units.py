"""Units of metrics and symbols of hyper-parameters, as results are printed."""

__all__ = ["METRIC_UNITS", "SYMBOLS", "UNIT_SUFFIXES"]

# Unit by metric.
METRIC_UNITS = {
    "accuracy": "percent",
    "nll": "nats",
    "class_nll": "nats",
    "ece": "ece",
    "bound": "nats",
    "tuned": "none",
}
# Text behind a number, by unit; a space and the unit's name where it has none of its own.
UNIT_SUFFIXES = {"percent": " %", "count": "", "ratio": "", "share": "", "nats": " nats"}
# Symbols that the paper prints for hyper-parameters, by the estimator's name.
SYMBOLS = {"n_neighbors": "k"}
