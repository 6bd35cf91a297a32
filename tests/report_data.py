"""Data of a report that no run made: of every kind of result, with names that a user may give."""

from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.reporting.report import types

__all__ = ["HOSTILE", "make_report"]

# A name of a data set that ends a script, were it not escaped.
HOSTILE = "<b>x</b></script><script>document.title='broken'</script>&amp;\"'"
METHODS = {
    "knn": "k nearest neighbours",
    "logistic_regression": "Logistic regression",
    "mlp_dropout": "MLP with dropout",
    "rbf_label_spreading": "RBF label spreading",
    "pi_model": "Π-model with dropout",
    "flowgmm": "FlowGMM",
}
VERDICTS = ("reproduced", "higher", "lower", "inconclusive", "not comparable", "failed", "not run")
CURVES = ("loss", "labelled_ce", "labelled_nll", "unlabelled_nll")


def make_report(folder: Path, n_runs: int = 30, n_seeds: int = 4) -> types.Report:
    """Make a report with files for its links.

    Arguments:
        folder: Folder of the page; tables and figures go beside it.
        n_runs: Least number of runs.
        n_seeds: Seeds of each.
    """
    rng = np.random.default_rng(0)
    words = cycle(VERDICTS)
    table_1 = _table(rng, "table_1", ["AG-News", "Yahoo! Answers", "HEPMASS"], n_seeds, words)
    table_7 = _wide(rng, n_seeds, words)
    # A seventh of the cells is not run.
    n_more = max(1, -(-(7 * n_runs // 6 - 20) // len(METHODS)))
    sets = [HOSTILE, *(f"set {i}" for i in range(1, n_more))]
    # Tables of eight columns, as long as needed.
    more = [
        _table(rng, f"extra_{i}", sets[i : i + 8], n_seeds, words) for i in range(0, len(sets), 8)
    ]
    tables = (table_1, table_7, *more)
    for name in [table.name for table in tables]:
        for kind in ("csv", "md", "tex", "json"):
            path = folder.parent / "tables" / f"{name}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("", encoding="utf-8")
    cells = [cell for table in tables for row in table.cells for cell in row]
    runs = {cell.run: _run(rng, cell, n_seeds) for cell in cells if cell.run}
    return types.Report(
        recipe="official",
        title="The authors' last public code",
        scaled_down=("16 filters",),
        changes=(),
        command="snakemake --profile local -- report",
        recipes=({"name": "small", "title": "Minutes on 2 cores", "page": None},),
        claims=_claims(),
        tables=tables,
        runs=tuple(runs.values()),
        figures=(_figure(folder),),
        tuning=_tuning(),
        curves=_curves(rng),
        calibration=tuple(
            types.Place("table_7", "FlowGMM", column.title)
            for column in table_7.columns
            if column.unit == "nats"
        ),
        cost=types.Cost(
            hours=12.5,
            devices=("cpu", "NVIDIA H200"),
            lines=(
                types.CostLine("table_1", 8.25, 30.0, "counted operations", 12, 6),
                types.CostLine("table_7", 0.5, None, "", 2, 1),
            ),
        ),
        missing=_missing(),
        departures={
            key: types.Departure("hidden layers", "1", "2", "2 in `official`", "docs/spec.md")
            for key in ("D10", "D3")
        },
        analyses=_analyses(),
    )


def _cell(
    rng: np.random.Generator, place: tuple[str, str, str], unit: str, n_seeds: int, verdict: str
) -> types.Cell:
    dataset, labels, method = place
    values = rng.normal(85, 3, n_seeds) if unit == "percent" else rng.normal(0.8, 0.1, n_seeds)
    run_id = "/".join(place)
    printed = float(np.round(values.mean() + rng.normal(0, 1), 1))
    made = verdict != "not run"
    return types.Cell(
        dataset=dataset,
        labels=labels,
        method=method,
        metric="accuracy" if unit == "percent" else "nll",
        evaluate="test",
        unit=unit,
        kind="paper",
        value=float(np.median(values)) if made else None,
        spread=1.25 if made else None,
        n=n_seeds if made else 0,
        n_failed=n_seeds - 1 if verdict == "failed" else 0,
        n_missing=0,
        interval={
            "low": float(values.min()),
            "high": float(values.max()),
            "kind": "range of the runs",
            "coverage": 0.875,
        }
        if made
        else None,
        margin=1.5,
        printed={
            "value": printed,
            "spread": None,
            "text": f"{printed}",
            "reported_by": "own",
            "source": None,
        },
        difference=float(np.median(values) - printed)
        if verdict in ("reproduced", "higher", "lower", "inconclusive")
        else None,
        verdict=verdict,
        why="scaled down: 16 filters" if verdict == "not comparable" else f"{verdict}, in words",
        text=f"{np.median(values):.1f} ± 1.2 (n = {n_seeds})" if made else "",
        values=tuple(
            {"seed": i, "split": i, "value": float(v), "status": "ok", "reason": None}
            for i, v in enumerate(values)
        )
        if made
        else (),
        run=run_id if made else None,
        command=f"snakemake --profile local -- results/official/runs/{run_id}/record.json",
    )


def _table(
    rng: np.random.Generator, name: str, sets: list[str], n_seeds: int, words: Any
) -> types.Table:
    columns = tuple(
        types.Column(
            f"{title}, {n} labels", title, "accuracy", "percent", (), ("3 columns dropped",)
        )
        for title, n in zip(sets, count(20, 20), strict=False)
    )
    rows = tuple(types.Row(title, "paper", method) for method, title in METHODS.items())
    cells = tuple(
        tuple(
            _cell(rng, (c.dataset, "20", r.method), "percent", n_seeds, next(words))
            for c in columns
        )
        for r in rows
    )
    return types.Table(
        name=name,
        title="Accuracy with few labels",
        caption=f"{name}: Accuracy with few labels · recipe official",
        legend="Median ± median absolute deviation over n runs; accuracy in percent.",
        aggregate="median",
        columns=columns,
        rows=rows,
        cells=cells,
        sentences=("FlowGMM against the baselines: ahead on 1 of 3 sets.",),
        files=tuple(f"../tables/{name}.{kind}" for kind in ("csv", "md", "tex", "json")),
    )


def _wide(rng: np.random.Generator, n_seeds: int, words: Any) -> types.Table:
    """A table of more columns than rows, of two units, with a row that is only quoted."""
    units = {"moons, NLL": "nats", "moons, accuracy": "percent", "circles, NLL": "nats"}
    columns = tuple(
        types.Column(title, title.split(",")[0], "nll", unit, ("scaled down",), ())
        for title, unit in units.items()
    )
    rows = (types.Row("FlowGMM", "paper", "flowgmm"), types.Row("SCNF", "quoted", None))
    ours = tuple(
        _cell(rng, (c.dataset, "10", "flowgmm"), c.unit, n_seeds, next(words)) for c in columns
    )
    quoted = tuple(
        types.Cell(
            **{
                **vars(cell),
                "kind": "quoted",
                "value": None,
                "verdict": "",
                "run": None,
                "difference": None,
                "text": "",
                "values": (),
                "command": "",
                "printed": {**cell.printed, "source": "Atanov et al. 2019"},
            }
        )
        for cell in ours
    )
    return types.Table(
        name="table_7",
        title="FlowGMM against SCNF",
        caption="Table 7: FlowGMM against SCNF · recipe official",
        legend="Mean ± std over n runs.",
        aggregate="mean",
        columns=columns,
        rows=rows,
        cells=(ours, quoted),
        sentences=(),
        files=("../tables/table_7.csv",),
    )


def _run(rng: np.random.Generator, cell: types.Cell, n_seeds: int) -> types.Run:
    steps = tuple(range(24, 1201, 24))
    shape = (len(CURVES), n_seeds, len(steps))
    curves = np.exp(-np.arange(len(steps)) / 20) + rng.normal(0, 0.02, shape)
    failed = cell.verdict == "failed"
    classes = ("upper", "lower", HOSTILE)
    return types.Run(
        id=cell.run,
        method=cell.method,
        title=METHODS[cell.method],
        dataset=cell.dataset,
        dataset_title=cell.dataset,
        labels=cell.labels,
        seeds=tuple(range(n_seeds)),
        splits=tuple(range(n_seeds)),
        status=("failed" if failed else "ok", *["ok"] * (n_seeds - 1)),
        reasons=("diverged" if failed else None, *[None] * (n_seeds - 1)),
        metrics={"test accuracy": [0.9] * n_seeds},
        history=types.History(
            steps,
            {
                name: [[float(f"{v:.4g}") for v in row] for row in found]
                for name, found in zip(CURVES, curves, strict=True)
            },
        ),
        confusion=[[50, 2, 1], [3, 40, 0], [0, 4, 60]],
        classes=classes,
        params={f"training.parameter_{i}": i for i in range(30)},
        differs=(types.Difference("flow.n_inner", 2, 1, ("D3",)),),
        tuned=tuple({"training.lr": 0.001} for _ in range(n_seeds)),
        data={"n_train": 1000, "n_labelled": 20, "n_test": 500, "n_val": 100},
        instead=("16 filters in place of 64",),
        notes=("3 constant columns dropped",),
        hashes={
            "features": rng.bytes(32).hex(),
            "code": "b35d" * 16,
            "splits": {str(i): rng.bytes(32).hex() for i in range(n_seeds)},
        },
        commit="8185417ba696c9f4dae3466ef2847b0a56a04c8a",
        dirty=False,
        versions={"numpy": "2.4.6", "scikit-learn": "1.9.1", "torch": "2.14.1"},
        python="3.11.7",
        platform="Linux",
        device="cpu",
        threads=1,
        precision="fp32",
        minutes=1.5,
        records=(f"results/official/runs/{cell.run}/record.json",),
        logs=(f"results/official/logs/train_stack/{cell.run}.log",),
        command=cell.command,
    )


def _claims() -> tuple[types.Claim, ...]:
    place = types.Place("table_1", "FlowGMM", "AG-News, 20 labels")
    decider = types.Decider("table", "table_1", (place,))
    shared: dict[str, Any] = {
        "over": "runs",
        "unit": "points",
        "rule": "holds if its 90 % interval over runs lies above 0",
        "hours": 1.25,
        "runs": ("AG-News/20/flowgmm",),
    }
    found = []
    words = (
        "holds",
        "does not hold",
        "undecided",
        "not run",
        "undecided",
        "not run",
        "holds",
        "not run",
    )
    for i, decision in enumerate(words, 1):
        made = decision != "not run"
        numbers: dict[str, Any] = {
            "decision": decision,
            "why": "+1.2 [+0.4, +2.0] points" if made else "no run of table_1 has been made",
            "estimate": 1.234 if made else None,
            "interval": (0.44, 2.02) if made else None,
            "n": 4 if made else 0,
            "instead": ("16 filters in place of 64",) if i == 2 else (),
        }
        part = types.Part(
            title="lead over the best baseline",
            values=(0.9, 1.5) if made else (),
            bounds={"above": 0.0},
            decided_by=(decider,),
            decisive=True,
            **numbers,
            **shared,
        )
        found.append(
            types.Claim(
                id=f"C{i}",
                title="Best with few labels",
                sentence="With few labels FlowGMM is more accurate than every baseline.",
                scope="Table 1",
                decided_by=(decider, types.Decider("figure", "figure_1")),
                parts=(part,) * (1 + i % 2),
                **numbers,
                **shared,
            )
        )
    return tuple(found)


def _figure(folder: Path) -> types.Figure:
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 2))
    figure.subplots().plot([0, 1], [1, 0])
    place = folder.parent / "figures"
    place.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "flowgmm"}):
        figure.savefig(place / "figure_1.svg", metadata={"Date": None})
    figure.savefig(place / "figure_1.png", dpi=200)
    return types.Figure(
        name="figure_1",
        title="Data and samples",
        caption="Figure 1: Data and samples",
        file="../figures/figure_1.svg",
        png="../figures/figure_1.png",
        command="snakemake --profile local -- figure_1",
    )


def _tuning() -> tuple[types.Tuning, ...]:
    one = [{"params": {"training.lr": lr}, "accuracy": 0.7 + lr} for lr in (1e-4, 1e-3, 1e-2)]
    two = [
        {"params": {"lr": lr, "weight": w}, "accuracy": 0.7 + lr + w / 10}
        for lr in (1e-4, 1e-3, 1e-2)
        for w in (0.5, 1.0)
    ]
    words = [{"params": {"kernel": k}, "accuracy": 0.8} for k in ("rbf", "linear")]
    return tuple(
        types.Tuning(f"AG-News/20/{m}", m, "AG-News", "20", tuple(p), (p[-1]["params"],), None)
        for m, p in (("mlp_dropout", one), ("flowgmm", two), ("knn", words))
    )


def _curves(rng: np.random.Generator) -> tuple[types.Curve, ...]:
    def point(x: float) -> types.Point:
        y = float(70 + 8 * np.log10(x) + rng.normal())
        place = types.Place("table_1", "FlowGMM", "AG-News, 20 labels")
        return types.Point(x, y, (y - 1, y + 1), 4, round(y + 0.5, 1), place)

    return tuple(
        types.Curve("mnist", "MNIST", m, title, "percent", tuple(map(point, (100, 600, 3000))))
        for m, title in METHODS.items()
    )


def _missing() -> tuple[types.Missing, ...]:
    place = types.Place("table_1", "FlowGMM", "Yahoo! Answers, 40 labels")
    return (
        types.Missing(place, "inconclusive", "interval [80, 90]", "snakemake -- table_1", 35, 0.4),
        types.Missing(types.Place("", "C4", ""), "not run", "no run", "snakemake -- x", None, None),
        types.Missing(types.Place("table_2", "kNN", "250"), "not run", "no file", "", None, 5.2),
    )


def _analyses() -> tuple[dict[str, Any], ...]:
    head = {"recipe": "official", "analysis": "ordering", "title": "Order of the three"}
    number = {
        "number": "accuracy, unlabelled minus none",
        "value": 18.58,
        "unit": "percent",
        "values": [18.0, 19.16],
        "interval": {"low": 4.02, "high": 33.13, "kind": "Student t", "coverage": 0.9},
        "paper": 1.58,
        "verdict": "not comparable",
        "why": "scaled down",
        "claim": "at least 0",
        "decision": "holds",
        "n_holds": 2,
        "n_seeds": 2,
        "failed": 0,
        "left_out": "",
    }
    failed = {"analysis": "em", "title": "EM", "number": "", "verdict": "failed", "why": "no model"}
    return ({**head, **number}, {"recipe": "official", **failed})
