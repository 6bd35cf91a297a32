"""Commands of `flowgmm`, each a file or folder."""
