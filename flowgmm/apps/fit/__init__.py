"""`flowgmm fit`, `predict` and `sample`: a classifier for a table."""
