"""The command `flowgmm`: every command is options in, one call of the package, one screen out."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

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


@command
def fit(
    file: Annotated[Path, typer.Argument(help="CSV (plain or gzipped), .parquet, or .npz (X, y).")],
    label: Annotated[str, typer.Option(help="Column with the classes; empty: unlabelled.")] = "y",
    text: Annotated[
        list[str] | None, typer.Option(help="Column of free text to embed; may be repeated.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="Column to leave out; may be repeated.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="A second table with labels, to score on.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results. [default: NAME-flowgmm]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder of results.")] = False,
    encoder: Annotated[
        str, typer.Option(help="Text encoder: minilm, mpnet, a hub model's name or a folder.")
    ] = "minilm",
    sep: Annotated[str, typer.Option(help="Separator of a CSV.")] = ",",
    encoding: Annotated[str, typer.Option(help="Of a CSV.")] = "utf-8",
    seed: Annotated[int, typer.Option(min=0, help="Of folds and training.")] = 0,
) -> None:
    """Classify the unlabelled rows of a table, and say how good and how sure that is.

    Writes predictions.csv, a saved model, report.html and report.json. Numbers are scaled,
    categories encoded, dates become days; a column that is no help is left out, with a note.

    Example: flowgmm fit customers.csv --label churned
    """
    from flowgmm.own_data import fit_table
    from flowgmm.report import show

    folder = output or Path(f"{file.name.split('.')[0]}-flowgmm")
    with _progress() as progress:
        report = fit_table(
            file,
            label,
            folder,
            text=text or (),
            drop=drop or (),
            test=test,
            encoder=encoder,
            sep=sep,
            encoding=encoding,
            seed=seed,
            force=force,
            progress=progress,
        )
    show(report, folder)


@command
def predict(
    model: Annotated[Path, typer.Argument(help="Folder from flowgmm fit.")],
    file: Annotated[Path, typer.Argument(help="Table with the same columns; no label is needed.")],
    output: Annotated[Path | None, typer.Option(help="CSV to write. [default: the screen]")] = None,
    sep: Annotated[str, typer.Option(help="Separator of a CSV.")] = ",",
    encoding: Annotated[str, typer.Option(help="Of a CSV.")] = "utf-8",
) -> None:
    """Class of each row of a table, with the probability of every class.

    Example: flowgmm predict customers-flowgmm new.csv --output predicted.csv
    """
    from flowgmm.own_data import TableModel
    from flowgmm.tabular import read_table

    fitted = TableModel.load(model)
    with _progress() as progress:
        predicted = fitted.predict(read_table(file, sep=sep, encoding=encoding), progress)
    _write(predicted, output)


@command
def sample(
    model: Annotated[Path, typer.Argument(help="Folder from flowgmm fit.")],
    n: Annotated[int, typer.Option("-n", help="Number of rows.")] = 10,
    class_: Annotated[
        str | None, typer.Option("--class", help="Their class. [default: each is drawn]")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Below 1: closer to the middle of the class.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    output: Annotated[Path | None, typer.Option(help="CSV to write. [default: the screen]")] = None,
) -> None:
    """Draw new rows of the table from a fitted model.

    Approximate for categories, which are the likeliest level of a drawn point; texts stay empty.

    Example: flowgmm sample customers-flowgmm -n 100 --class yes --output drawn.csv
    """
    from flowgmm.own_data import TableModel

    _write(TableModel.load(model).sample(n, class_, temperature, seed), output)


def _write(frame: Any, output: Path | None) -> None:
    from flowgmm.files import write_text

    text = frame.to_csv(index=False, float_format="%.6g")
    if output is None:
        print(text, end="")
    else:
        write_text(output, text)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar of what is being done, on standard error while it is a terminal."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:

        def tell(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name)
            bar.update(tasks[name], completed=done, total=total)

        yield tell


def main() -> None:
    """Entry point."""
    app()
