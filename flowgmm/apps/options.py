"""Options that several commands share."""

from typing import Annotated

import typer

__all__ = ["Decimal", "Drop", "Encoding", "Keep", "Missing", "Separator", "Unlabelled"]

Drop = Annotated[list[str] | None, typer.Option(help="Column to leave out; may be repeated.")]
Keep = Annotated[
    list[str] | None,
    typer.Option(help="Column to keep though it looks like an identifier; may be repeated."),
]
Missing = Annotated[
    list[str] | None, typer.Option(help="Cell of a missing value, as -9999; may be repeated.")
]
Unlabelled = Annotated[
    str | None, typer.Option(help='Label of an unlabelled row; "": only the empty cell.')
]
Decimal = Annotated[
    str | None,
    typer.Option(help="Decimal mark of numbers that . and , both fit. [default: recognised]"),
]
Separator = Annotated[
    str | None, typer.Option(help="Separator of a text file. [default: recognised]")
]
Encoding = Annotated[
    str | None, typer.Option(help="Encoding of a text file. [default: utf-8, or its BOM]")
]
