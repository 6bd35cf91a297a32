"""`flowgmm doctor`: the profile of a cluster beside the cluster."""
