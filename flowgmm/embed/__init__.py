"""Texts and images -> vectors of an encoder, once for all methods, cached by content."""
