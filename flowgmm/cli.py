"""The command `flowgmm`: every command is options in, one call of the package, one screen out."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import typer

from flowgmm.errors import UserError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Semi-supervised classification with FlowGMM, on your own data and in the paper's tables.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose user's mistakes end as one line and exit status 2.

    The name is the function's, with dashes; the help is its docstring, which ends with an example.
    """

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None

    return app.command(name=function.__name__.replace("_", "-"))(guarded)


def main() -> None:
    """Entry point."""
    app()
