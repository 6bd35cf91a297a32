"""`flowgmm estimate`: the cost of a run before it starts."""
