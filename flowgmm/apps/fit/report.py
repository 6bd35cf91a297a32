"""Report of `flowgmm fit`: one screen of text, and a page with two plots."""

import base64
import io
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm.apps.fit.methods import COMBINED, FLOWGMM
from flowgmm.reporting.plot_style import COLOURS, STYLE, class_colour
from flowgmm.reporting.style import style_sheet
from flowgmm.tabular.notes import grouped, n_lines
from flowgmm.utils.io import write_text

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

    from flowgmm.methods.flow_gmm import FlowGMMClassifier

__all__ = ["draw", "show", "summary", "write_page"]

# Points in the plot of the latent space.
MAX_POINTS = 3000
# Longer names of classes lie over others.
LONGEST_NAME = 24
# Words in a script that is written from right to left.
RIGHT_TO_LEFT = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]+(?: +[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]+)*"
)
# Lines of a screen.
SCREEN = 25
HEADER = ("method", "accuracy", "95 % interval", "difference", "p", "class NLL")


def summary(report: Mapping[str, Any], lines: float = math.inf) -> list[str]:
    """Summary of the table and of all that was decided on its reading, a sentence or two a line.

    Arguments:
        report: From `flowgmm.apps.fit.run.fit_table`.
        lines: Lines of a screen for the notes on columns; see `flowgmm.tabular.notes.grouped`.
    """
    kinds = Counter(report["columns"].values())
    columns = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    classes = [f"{entry['labelled']:,} {entry['name']}" for entry in report["classes"]]
    more = ", ..." if len(classes) > 10 else ""
    texts = [
        f"{Path(report['file']).name}: {report['rows']:,} rows, {report['labelled']:,} labelled "
        f"({', '.join(classes[:10])}{more}). Columns: {columns}; {report['features']} features."
        + "".join(f" {sentence}" for sentence in report["reading"]),
        *grouped(report["notes"], lines=lines),
    ]
    if report["test"] is not None and report["test"]["notes"]:
        texts.append(f"{report['test']['file']}:")
        texts += grouped(report["test"]["notes"], lines=lines)
    single = [entry["name"] for entry in report["classes"] if entry["labelled"] == 1]
    if single:
        texts.append(
            f"One labelled row: {', '.join(map(repr, single[:5]))}; unknown when that is held out, "
            f"a class counts as wrong there; {report['held_out']['folds']} folds."
        )
    return [*texts, *report["left_out"], unlabelled(report)]


def unlabelled(report: Mapping[str, Any]) -> str:
    """Benefit of the unlabelled rows, in one sentence; docs/recipes.md has the numbers."""
    n = report["rows"] - report["labelled"]
    if not n:
        return "Every row is labelled, so there was no unlabelled row to learn from."
    bought = "probabilities, density, samples; hardly accuracy"
    if report["method"] in (COMBINED, FLOWGMM):
        return f"{n:,} unlabelled rows improve {bought}."
    return f"{n:,} unlabelled rows go unused; with --method combined they improve {bought}."


def verdict(report: Mapping[str, Any], part: str) -> str:
    """Comparison of the model's method with all others on the same rows, one sentence or two."""
    others = report[part]["methods"][1:]
    clauses = []
    for is_ in ("better", "worse"):
        shown = [
            f"{entry['method']} by {100 * abs(entry['difference']):.1f}"
            for entry in others
            if entry["chosen_is"] == is_
        ]
        clauses += [f"{is_} than {', '.join(shown)} points"] if shown else []
    n_equal = sum(entry["chosen_is"] == "no difference shown" for entry in others)
    clauses += [f"not shown to differ from the other {n_equal}"] if n_equal else []
    n = report[part]["rows"]
    text = f"{report['method']} is {'; '.join(clauses)}."
    best = max(others, key=lambda entry: entry["difference"])
    if best["difference"] > 0 and best["chosen_is"] == "no difference shown":
        text += (
            f" {best['method'][0].upper()}{best['method'][1:]} has "
            f"{100 * best['difference']:.1f} points more, which {n:,} rows cannot tell from chance."
        )
    return text


def confidence(report: Mapping[str, Any]) -> str:
    """Confidence of the predictions, and its calibration on held-out rows, two sentences."""
    counts, held_out = report["sure"], report["held_out"]
    which = "unlabelled" if report["rows"] > report["labelled"] else "labelled"
    error, temperature = held_out["methods"][0]["ece"], held_out["temperature"]
    softened = f" (temperature {temperature:.2g})" if temperature is not None else ""
    rough = ", roughly" if held_out["rows"] < 200 else ""
    return (
        f"{counts['rows']:,} {which} rows: {counts['at_least_90']:,} at 90 % probability or more, "
        f"{counts['below_60']:,} below 60 %; on held-out rows{softened} off by "
        f"{100 * error:.0f} points{rough}."
    )


def parts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Key and caption of each set of rows that methods were scored on."""
    held_out = report["held_out"]
    how = (
        f"{held_out['folds']}-fold cross-validation over the {held_out['rows']:,} labelled rows"
        if held_out["folds"] > 1
        else f"{held_out['rows']:,} of the {report['labelled']:,} labelled rows held out"
    )
    found = [("held_out", f"Held-out accuracy: {how}")]
    if report["test"] is not None:
        tested = report["test"]
        found.append(("test", f"Accuracy on {tested['file']}, {tested['rows']:,} rows"))
    return found


def show(report: Mapping[str, Any], output: Path) -> None:
    """Print the report on one screen.

    Arguments:
        report: From `flowgmm.apps.fit.run.fit_table`.
        output: Folder of the results.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    captions = {"held_out": f"held out, {report['held_out']['folds']} folds", "test": "test table"}
    results = [
        report["choice"],
        confidence(report),
        f"In {report['seconds']:.0f} s. Results: {output}/ (report.html, predictions.csv)",
    ]
    shown = [*summary({**report, "notes": []}), *results]
    rows = sum(1 + len(report[part]["methods"]) for part, _ in parts(report))
    shown += [verdict(report, part) for part, _ in parts(report)]
    for text in summary(report, SCREEN - rows - sum(map(n_lines, shown))):
        console.print(text)
    for part, _ in parts(report):
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in (captions[part], *HEADER[1:]):
            table.add_column(name)
        for entry in report[part]["methods"]:
            table.add_row(*_cells(entry))
        console.print(table)
        console.print(verdict(report, part))
    for text in results:
        console.print(text)


def _cells(entry: Mapping[str, Any]) -> list[str]:
    return [
        entry["method"],
        f"{100 * entry['accuracy']:.1f} %",
        f"{100 * entry['low']:.1f} to {100 * entry['high']:.1f}",
        f"{100 * entry['difference']:+.1f}" if "difference" in entry else "",
        _p_value(entry["p_value"]) if "p_value" in entry else "",
        f"{entry['class_nll']:.2f}",
    ]


def _p_value(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-4 else "< 0.0001"


def draw(
    estimator: "FlowGMMClassifier",
    classes: Sequence[str],
    X: np.ndarray,
    codes: np.ndarray,
    report: Mapping[str, Any],
) -> bytes:
    """Draw the latent space and the reliability diagram as PNG.

    Arguments:
        estimator: The fitted FlowGMM, of codes 0..K-1.
        classes: The K names.
        X: Features, shape (N, D).
        codes: Classes in 0..K-1, -1 where unlabelled, shape (N,).
        report: From `flowgmm.apps.fit.run.fit_table`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 5), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_latent(left, estimator, classes, X, codes)
        _draw_reliability(right, report["held_out"]["reliability"])
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def _draw_latent(
    ax: "Axes",
    estimator: "FlowGMMClassifier",
    classes: Sequence[str],
    X: np.ndarray,
    codes: np.ndarray,
) -> None:
    """Plot latent codes in the plane of the means.

    With 2 classes, the means span one axis; the second is the first principal component of the
    rest.
    """
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(X))[:MAX_POINTS]
    labelled = rng.permutation(np.flatnonzero(codes >= 0))[:MAX_POINTS]
    means = estimator.means_.astype(np.float64)
    centre = means.mean(axis=0)
    n_modelled = means.shape[1]
    z = estimator.transform(X[rows])[:, :n_modelled] - centre
    axes = np.linalg.svd(means - centre, full_matrices=False)[2][: min(2, len(means) - 1)]
    if len(axes) < 2 <= n_modelled:
        rest = z - z @ axes.T @ axes
        axes = np.vstack([axes, np.linalg.svd(rest, full_matrices=False)[2][:1]])
    axes = np.vstack([axes, np.zeros((2 - len(axes), n_modelled))])
    colours = np.array([class_colour(k) for k in range(len(means))])
    predicted = estimator.predict(X[rows])
    x, y = (z @ axes.T).T
    ax.scatter(x, y, s=5, c=colours[predicted], linewidths=0, alpha=0.5)
    x, y = axes @ (estimator.transform(X[labelled])[:, :n_modelled] - centre).T
    ax.scatter(x, y, s=42, c=colours[codes[labelled]], edgecolors="black", linewidths=1)
    stars = (means - centre) @ axes.T
    ax.scatter(stars[:, 0], stars[:, 1], s=160, c="white", marker="*", edgecolors="black", zorder=4)
    for star, name in zip(stars[:30], _names_in_picture(classes), strict=False):
        # A name with dollar signs is text, not a formula.
        ax.annotate(
            name, star, (6, 6), textcoords="offset points", parse_math=False, fontweight="bold"
        )
    ax.set(title="FlowGMM's latent space", xticks=[], yticks=[])


def _names_in_picture(classes: Sequence[str]) -> list[str]:
    """Names of the classes, or the numbers 1..K where the font or the place cannot show them all.

    Of names from right to left, matplotlib before 3.11 shows the letters in the wrong order.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    glyphs = get_font(findfont(FontProperties(weight="bold"))).get_charmap()
    letters = set("".join(classes))
    if (
        max(map(len, classes)) > LONGEST_NAME
        or not glyphs.keys() >= set(map(ord, letters))
        or not {"R", "AL"}.isdisjoint(map(unicodedata.bidirectional, letters))
    ):
        return [str(k) for k in range(1, len(classes) + 1)]
    return list(classes)


def _draw_reliability(ax: "Axes", bins: list[dict[str, float]]) -> None:
    """Plot accuracy against confidence on held-out rows; larger dots stand for more rows."""
    total = sum(b["n"] for b in bins)
    confidence, accuracy = ([b[key] for b in bins] for key in ("confidence", "accuracy"))
    ax.plot([0, 1], [0, 1], color="grey", linestyle="dashed", linewidth=1)
    ax.plot(confidence, accuracy, color=COLOURS[0], linewidth=1)
    ax.scatter(confidence, accuracy, s=[20 + 400 * b["n"] / total for b in bins], c=COLOURS[0])
    ax.set(
        title="reliability on held-out rows",
        xlabel="probability of the predicted class",
        ylabel="share that is right",
        xlim=(0, 1.03),
        ylim=(-0.03, 1.03),
    )


def columns_table(report: Mapping[str, Any]) -> list[list[str]]:
    """Rows of the table of columns: name, taken as, format, missing, others; those in use first."""
    notes = {(kind, column): text for kind, column, text in report["notes"]}
    rows = []
    for name, kind in report["columns"].items():
        sentinel, rare = (notes.get((key, name)) for key in ("sentinel", "rare"))
        remarks = [
            *([f"{sentinel}, repeated and far from all others"] if sentinel else []),
            *([f"{rare} levels are rare, taken as one"] if rare else []),
        ]
        spelt = notes.get(("spelling", name), notes.get(("dates", name), ""))
        rows.append([name, kind, spelt, notes.get(("missing", name), ""), "; ".join(remarks)])
    left_out = [(column, text) for (kind, column), text in notes.items() if kind == "left out"]
    return [*rows, *([column, "left out", "", "", text] for column, text in left_out)]


def isolated(text: object) -> "Markup":
    """Escape a text, and isolate names from right to left from the direction of the rest."""
    from markupsafe import Markup, escape

    return Markup(RIGHT_TO_LEFT.sub(r"<bdi>\g<0></bdi>", str(escape(text))))  # noqa: S704


def write_page(path: Path, report: Mapping[str, Any], picture: bytes) -> None:
    """Write the page from the template `report.html`; it needs no other file.

    Arguments:
        path: The page.
        report: From `flowgmm.apps.fit.run.fit_table`.
        picture: PNG from `draw`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["isolated"] = isolated
    names = [entry["name"] for entry in report["classes"]]
    shown = _names_in_picture(names)
    numbered = shown != names
    page = environment.get_template("report.html").render(
        style=style_sheet(),
        report=report,
        summary=summary(report),
        parts=[
            {
                "caption": caption,
                "header": [*HEADER, "calibration error, points"],
                "rows": [
                    [*_cells(entry), f"{100 * entry['ece']:.1f}"]
                    for entry in report[part]["methods"]
                ],
                "verdict": verdict(report, part),
            }
            for part, caption in parts(report)
        ],
        confidence=confidence(report),
        picture=base64.b64encode(picture).decode(),
        numbered=numbered,
        columns=columns_table(report),
        class_header=[
            "class",
            *(["number"] if numbered else []),
            *("labelled rows", "right when held out", "predicted, unlabelled rows"),
        ],
        classes=[
            [
                entry["name"],
                *([number] if numbered else []),
                f"{entry['labelled']:,}",
                f"{entry['held_out_right']:,} of {entry['held_out']:,}",
                f"{entry['predicted_unlabelled']:,}",
            ]
            for number, entry in zip(shown, report["classes"], strict=True)
        ],
    )
    write_text(path, page)
