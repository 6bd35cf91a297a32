"""Tables of text cells: files, numbers, dates and column descriptions."""
