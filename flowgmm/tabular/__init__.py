"""Tables of text cells: files, spelling of numbers and dates, descriptions of columns, labels."""
