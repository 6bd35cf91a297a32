"""`flowgmm explore`: features of an image flow in a browser."""
