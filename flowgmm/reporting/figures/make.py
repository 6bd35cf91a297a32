"""Registry of figures by the name that the config gives them; drawing and saving."""

import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgmm.reporting.figures.columns import (
    draw_accuracies,
    draw_class_weights,
    draw_confidences,
    draw_convergence,
)
from flowgmm.reporting.figures.images import draw_latent_space, draw_likelihoods, draw_samples
from flowgmm.reporting.figures.planar import Panel, draw_transport, draw_with_and_without
from flowgmm.reporting.figures.tuning import draw_tuning
from flowgmm.reporting.plot_style import STYLE
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from flowgmm.analyses.results import Found
    from flowgmm.reporting.tables.cells import Table

__all__ = ["FUNCTIONS", "make_figure", "save"]

FUNCTIONS: dict[str, Callable[[Any], "Figure"]] = {
    "transport": draw_transport,
    "with_and_without": draw_with_and_without,
    "tuning": draw_tuning,
    "latent_space": draw_latent_space,
    "likelihoods": draw_likelihoods,
    "samples": draw_samples,
    "accuracies": draw_accuracies,
    "confidences": draw_confidences,
    "class_weights": draw_class_weights,
    "convergence": draw_convergence,
}


def make_figure(
    function: str, content: "Sequence[Panel] | Table | Sequence[Found]", marks: Sequence[str] = ()
) -> "Figure":
    """Draw a figure.

    Arguments:
        function: A name in `FUNCTIONS`.
        content: Panels, the table whose background the figure shows, or analyses.
        marks: Reasons why the figure is not the paper's, such as a smaller size; written below it.

    Raises:
        UserError: If the function is unknown.
    """
    import matplotlib

    matplotlib.use("Agg")
    if function not in FUNCTIONS:
        raise UserError(
            f"config/figures.yaml: function {function!r} is not known; "
            f"choose one of {', '.join(FUNCTIONS)}"
        )
    with matplotlib.rc_context(STYLE):
        figure = FUNCTIONS[function](content)
        if marks:
            size = 10 if figure.get_figwidth() > 4 else 6
            letters = int(130 / size * figure.get_figwidth())  # that fit on a line
            figure.supxlabel(textwrap.fill("; ".join(marks), letters), fontsize=size)
        return figure


def save(figure: "Figure", prefix: str | os.PathLike[str]) -> list[Path]:
    """Write `prefix`.png (200 dpi), .pdf and .svg; equal figures give equal bytes.

    Returns:
        The three paths.
    """
    import matplotlib

    paths = [Path(f"{os.fspath(prefix)}.{suffix}") for suffix in ("png", "pdf", "svg")]
    # Neither a date nor a version, so that equal results can be told by their hash.
    metadata = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "svg": {"Date": None, "Creator": None},
    }
    # Else the names inside an svg are drawn at random.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "flowgmm"}):
        for path in paths:
            kind = path.suffix[1:]
            with atomic_path(path) as part:
                figure.savefig(part, format=kind, dpi=200, metadata=metadata[kind])
    return paths
