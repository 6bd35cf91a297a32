"""Tables: records become cells with verdicts, cells become a grid, and a grid becomes files."""
