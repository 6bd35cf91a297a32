"""The command `flowgmm`: every command is options in, one call of the package, one screen out."""

import contextlib
import functools
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from flowgmm.apps.options import Decimal, Drop, Encoding, Keep, Missing, Separator, Unlabelled
from flowgmm.apps.repository import find_repository
from flowgmm.utils.errors import UserError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Semi-supervised classification with FlowGMM, on your own data and in the paper's tables.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register a command; a `UserError` ends as one line and exit status 2.

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
def add_dataset(
    name: Annotated[str, typer.Argument(help="Name of the data set: letters, digits, _ and .")],
    file: Annotated[
        Path, typer.Argument(help="CSV or other text, or Parquet; plain or compressed.")
    ],
    label: Annotated[str, typer.Option(help="Column with the classes; empty: unlabelled.")],
    n_labels: Annotated[int, typer.Option(help="Labelled points of a run.")],
    n_val: Annotated[
        int | None, typer.Option(help="Validation points. [default: 1000, or a fifth of the rows]")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Values of the label column in order: a,b,c. [default: all]")
    ] = None,
    drop: Drop = None,
    one_hot: Annotated[
        list[str] | None, typer.Option(help="Column of categories; may be repeated.")
    ] = None,
    keep: Keep = None,
    missing: Missing = None,
    unlabelled: Unlabelled = None,
    decimal: Decimal = None,
    sep: Separator = None,
    encoding: Encoding = None,
    title: Annotated[str | None, typer.Option(help="What tables call it. [default: NAME]")] = None,
    licence: Annotated[str, typer.Option(help="Terms of use.")] = "not stated",
) -> None:
    """Add a table of your own to the workflow, as a column of the table `extra`.

    Run it in the repository. It copies the file to data/NAME/, checks it, and writes its entries
    into config/datasets.yaml and config/tables.yaml.

    Example: flowgmm add-dataset wine wine.csv --label quality --n-labels 30
    """
    root = find_repository()
    from flowgmm.apps.add_dataset import TableFile, add_dataset, show

    added = add_dataset(
        root,
        name,
        TableFile(
            file,
            label,
            classes=classes.split(",") if classes else None,
            drop=drop or (),
            keep=keep or (),
            one_hot=one_hot or (),
            missing=missing or (),
            unlabelled=unlabelled,
            decimal=decimal,
            sep=sep,
            encoding=encoding,
        ),
        n_labels=n_labels,
        n_val=n_val,
        title=title,
        licence=licence,
    )
    show(added)


@command
def estimate(
    targets: Annotated[
        list[str] | None, typer.Argument(help="As of Snakemake. [default: all_tables]")
    ] = None,
    config: Annotated[
        list[str] | None, typer.Option(help="key=value of config/config.yaml; may be repeated.")
    ] = None,
    profile: Annotated[str, typer.Option(help="Profile of Snakemake.")] = "local",
    cores: Annotated[int | None, typer.Option(help="Cores. [default: as in the profile]")] = None,
) -> None:
    """Estimate a run before it starts: jobs, hours, disk, and the longest chain.

    Times come from the records of runs that were made here, scaled where the size differs, and
    from counted operations where there are none.

    Example: flowgmm estimate table_1 --config recipe=small --config mirror=../data
    """
    root = find_repository()
    from flowgmm.apps.estimate.estimate import estimate
    from flowgmm.apps.estimate.show import show

    show(estimate(root, targets or ["all_tables"], config or (), profile, cores))


@command
def doctor(
    profile: Annotated[str, typer.Option(help="Profile of Snakemake for the cluster.")] = "slurm",
    write: Annotated[
        bool, typer.Option("--write", help="Write what suits the cluster into the profile.")
    ] = False,
    no_nodes: Annotated[
        bool, typer.Option("--no-nodes", help="Start no job to look at a node.")
    ] = False,
) -> None:
    """Compare the profile for Slurm with the cluster, and say what to set.

    Run it in the repository on a login node. Partitions, memory, time limits, GPUs and accounting
    are compared; short jobs look at the environment and the locks on nodes. The exit status is 1
    if something is left to set or to mend.

    Example: flowgmm doctor --write
    """
    from flowgmm.apps.doctor.doctor import diagnose, show

    diagnosis = diagnose(profile, write=write, nodes=not no_nodes)
    show(diagnosis)
    if not diagnosis.is_healthy:
        raise typer.Exit(1)


@command
def pack_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of an unfinished training.")],
    output: Annotated[Path, typer.Option(help="New folder for the parts.")],
    moments: Annotated[str, typer.Option(help="Of the optimizer: full, bf16, none.")] = "full",
) -> None:
    """Pack a checkpoint into parts of at most 16 MB, with their checksums.

    Moments in bf16 take a third off the size, none two thirds; a training that resumes from such a
    checkpoint is not exact, and its record says so.

    Example: flowgmm pack-checkpoint results/official/checkpoints/3f2a/state --output packed
    """
    from flowgmm.apps.pack_checkpoint import pack

    print(f"{output}: {pack(checkpoint, output, moments).text()}")


@command
def unpack_checkpoint(
    folder: Annotated[Path, typer.Argument(help="Folder from flowgmm pack-checkpoint.")],
    output: Annotated[Path, typer.Option(help="The checkpoint to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace one of the same run.")] = False,
) -> None:
    """Join the parts of a checkpoint; a missing, damaged or foreign part is refused.

    Example: flowgmm unpack-checkpoint packed --output results/official/checkpoints/91bc/state
    """
    from flowgmm.apps.outputs import check_file
    from flowgmm.apps.pack_checkpoint import unpack

    check_file(output, (folder,), force)
    print(f"{output}: {unpack(folder, output).text()}")


@command
def why(
    table: Annotated[str, typer.Argument(help="Table, such as table_1.")],
    dataset: Annotated[str, typer.Argument(help="Dataset of the column, or dataset/labels.")],
    method: Annotated[str, typer.Argument(help="Method of the row.")],
    recipe: Annotated[
        str | None, typer.Option(help="Recipe of the results. [default: as in config/config.yaml]")
    ] = None,
) -> None:
    """Trace a cell to its runs, seeds, hashes and logs, and to the command that recomputes it.

    Example: flowgmm why table_1 ag_news flowgmm --recipe small
    """
    root = find_repository()
    from flowgmm.apps.explain import explain, show

    show(explain(root, table, dataset, method, recipe))


@command
def fit(
    file: Annotated[
        Path, typer.Argument(help="CSV or other text, Parquet, or npz (X, y); plain or compressed.")
    ],
    label: Annotated[str, typer.Option(help="Column with the classes; empty: unlabelled.")] = "y",
    text: Annotated[
        list[str] | None, typer.Option(help="Column of free text to embed; may be repeated.")
    ] = None,
    drop: Drop = None,
    test: Annotated[
        Path | None, typer.Option(help="A second table with labels, to score on.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="Model: combined (FlowGMM and a random forest), flowgmm, forest, logistic; auto: "
            "combined, unless another is better on held-out rows."
        ),
    ] = "auto",
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results. [default: NAME-flowgmm]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder of results.")] = False,
    encoder: Annotated[
        str, typer.Option(help="Text encoder: minilm, mpnet, a hub model's name or a folder.")
    ] = "minilm",
    keep: Keep = None,
    missing: Missing = None,
    unlabelled: Unlabelled = None,
    decimal: Decimal = None,
    date_format: Annotated[
        str | None,
        typer.Option(help="Of dates that it fits, such as %d/%m/%Y. [default: recognised]"),
    ] = None,
    sep: Separator = None,
    encoding: Encoding = None,
    seed: Annotated[int, typer.Option(min=0, help="Of folds and training.")] = 0,
) -> None:
    """Classify the unlabelled rows of a table, beside what else one would use.

    FlowGMM, a random forest, both together, boosting, self-training and simple baselines are
    compared on held-out labels. Writes predictions.csv, a saved model, report.html and report.json.
    Numbers are scaled, categories encoded, dates become days; uninformative columns are left out.
    The screen says how columns were read; docs/your-data.md has the rules.

    Example: flowgmm fit customers.csv --label churned
    """
    from flowgmm.apps.fit.report import show
    from flowgmm.apps.fit.run import Source, fit_table
    from flowgmm.apps.outputs import results_folder
    from flowgmm.apps.screen import progress_bar
    from flowgmm.experiments.job_script import keep_freed_memory
    from flowgmm.tabular.infer import Choices

    keep_freed_memory()
    folder = output or results_folder(file)
    source = Source(
        file,
        label,
        unlabelled=unlabelled,
        drop=drop or (),
        choices=Choices(
            text=text or (),
            keep=keep or (),
            missing=missing or (),
            decimal=decimal,
            date_format=date_format,
        ),
        test=test,
        encoder=encoder,
        sep=sep,
        encoding=encoding,
    )
    with progress_bar() as progress:
        report = fit_table(source, folder, method=method, seed=seed, force=force, progress=progress)
    show(report, folder)


@command
def predict(
    model: Annotated[Path, typer.Argument(help="Folder from flowgmm fit.")],
    file: Annotated[Path, typer.Argument(help="Table with the same columns; no label is needed.")],
    output: Annotated[Path | None, typer.Option(help="CSV to write. [default: the screen]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the CSV.")] = False,
    sep: Separator = None,
    encoding: Encoding = None,
) -> None:
    """Predict the class of each row of a table, with the probability of every class.

    Example: flowgmm predict customers-flowgmm new.csv --output predicted.csv
    """
    from flowgmm.apps.fit.table_model import TableModel
    from flowgmm.apps.outputs import check_file
    from flowgmm.apps.screen import progress_bar, write_csv
    from flowgmm.tabular.notes import grouped
    from flowgmm.tabular.reading import read_table

    if output is not None:
        check_file(output, (model, file), force)
    fitted = TableModel.load(model)
    table = read_table(file, sep=sep, encoding=encoding)
    with progress_bar() as progress:
        predicted, notes = fitted.predict(table.frame, progress)
    for line in (*table.notes, *grouped(notes, lines=20)):
        print(line, file=sys.stderr)
    write_csv(predicted, output)


@command
def sample(
    model: Annotated[Path, typer.Argument(help="Folder from flowgmm fit.")],
    n: Annotated[int, typer.Option("-n", help="Number of rows.")] = 10,
    class_: Annotated[
        str | None, typer.Option("--class", help="Their class. [default: drawn]")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Below 1: closer to the middle of the class.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    output: Annotated[Path | None, typer.Option(help="CSV to write. [default: the screen]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the CSV.")] = False,
) -> None:
    """Draw new rows of the table from a fitted model.

    Approximate for categories, which get the most likely level of a drawn point; texts stay empty.

    Example: flowgmm sample customers-flowgmm -n 100 --class yes --output drawn.csv
    """
    from flowgmm.apps.fit.table_model import TableModel
    from flowgmm.apps.outputs import check_file
    from flowgmm.apps.screen import write_csv

    if output is not None:
        check_file(output, (model,), force)
    write_csv(TableModel.load(model).sample(n, class_, temperature, seed), output)


@command
def explore(
    model: Annotated[Path, typer.Argument(help="model.safetensors of a run on images.")],
    features: Annotated[
        Path | None, typer.Option(help="With test images. [default: the one that it learnt from]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the run's seeds. [default: the first that is sound]")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the page's address only.")
    ] = False,
) -> None:
    """Move a feature inside an image flow and see the images follow, in the browser.

    The page is served to this machine alone. Ctrl-C ends it.

    Example: flowgmm explore results/small/runs/mnist/1000/flowgmm/seeds-0-0/model.safetensors
    """
    import webbrowser

    from flowgmm.apps.explore.explorer import Explorer
    from flowgmm.apps.explore.server import Server
    from flowgmm.experiments.job_script import keep_freed_memory

    keep_freed_memory()
    explorer = Explorer.load(model, features, seed)
    with Server(explorer, port) as server:
        print(f"{explorer.title}\n{server.url}\nCtrl-C ends it.", flush=True)
        if not no_browser:
            webbrowser.open(server.url)
        with contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
            server.serve_forever()


def main() -> None:
    """Entry point; characters that the screen's encoding lacks are shown as escapes."""
    # Read when torch is imported. Threads that wait leave their cores to other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
