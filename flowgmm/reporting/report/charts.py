"""Charts of the report that stand on its page. Series differ in shape and colour."""

from collections.abc import Mapping, Sequence
from typing import Any

from flowgmm.reporting.report.vega import SERIES, SHAPES, Spec, category, chart, field

__all__ = [
    "accuracy_charts",
    "calibration_charts",
    "comparison_chart",
    "cost_chart",
    "tuning_charts",
]

PAPER = {"type": "point", "shape": "diamond", "size": 90, "color": "var(--ink)", "strokeWidth": 1.5}


def accuracy_charts(curves: Sequence[Mapping[str, Any]]) -> list[Spec]:
    """Accuracy of every method against labels, a chart for each dataset with two points or more.

    Arguments:
        curves: As in `flowgmm.reporting.report.types.Report`.
    """
    charts = []
    for dataset in dict.fromkeys(curve["dataset"] for curve in curves):
        own = [curve for curve in curves if curve["dataset"] == dataset]
        rows = [_point(curve, point) for curve in own for point in curve["points"]]
        sizes = sorted({row["labels"] for row in rows if row["ours"] is not None})
        if len(sizes) < 2:
            continue
        titles = list(dict.fromkeys(row["method"] for row in rows))
        x = field("labels", "labels", scale={"type": "log"}, axis={"values": sizes, "format": "d"})
        y = field("ours", "accuracy, percent", scale={"zero": False})
        shape = category("method", scale={"domain": titles, "range": SHAPES * 3})
        colour = category("method", scale={"domain": titles, "range": SERIES * 3})
        name = own[0]["dataset_title"]
        layers = [
            {
                "mark": {"type": "rule", "strokeWidth": 1, "opacity": 0.6},
                "encoding": {
                    "x": x,
                    "y": field("low", y["title"]),
                    "y2": {"field": "high"},
                    "color": colour,
                },
            },
            {
                "mark": {"type": "line", "strokeWidth": 1.5},
                "encoding": {"x": x, "y": y, "color": colour},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {"x": x, "y": y, "color": colour, "shape": shape},
            },
            {"mark": PAPER, "encoding": {"x": x, "y": field("paper", y["title"])}},
        ]
        about = f"{name}: accuracy of {', '.join(titles)} against the number of labels"
        charts.append(chart(about, title=name, height=220, data={"values": rows}, layer=layers))
    return charts


def _point(curve: Mapping[str, Any], point: Mapping[str, Any]) -> Spec:
    low, high = point["interval"] or (None, None)
    return {
        "method": curve["title"],
        "labels": point["x"],
        "ours": point["value"],
        "paper": point["paper"],
        "low": low,
        "high": high,
    }


def tuning_charts(
    tuning: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]
) -> list[Spec]:
    """Validation accuracy of the candidates of each run.

    The hyper-parameter with most values goes along the axis; the others tell the series.

    Arguments:
        tuning: As in `flowgmm.reporting.report.types.Report`.
        runs: Likewise.
    """
    titles = {run["id"]: f"{run['title']}, {run['dataset_title']}" for run in runs}
    return [
        _tuning_chart(found, titles.get(found["run"], f"{found['method']}, {found['dataset']}"))
        for found in tuning
        if len(found["points"]) > 1
    ]


def _tuning_chart(found: Mapping[str, Any], title: str) -> Spec:
    params = [point["params"] for point in found["points"]]
    values = {name: {str(p.get(name)) for p in params} for name in params[0]}
    axis = max(values, key=lambda name: len(values[name]))
    chosen = [choice for choice in found["chosen"] if choice]
    rows = [
        {
            "x": p[axis],
            "accuracy": 100 * point["accuracy"],
            "others": ", ".join(f"{_short(k)} {v}" for k, v in p.items() if k != axis),
            "chosen": any(p == choice for choice in chosen),
        }
        for p, point in zip(params, found["points"], strict=True)
        if point["accuracy"] is not None
    ]
    numeric = all(isinstance(row["x"], int | float) and row["x"] > 0 for row in rows)
    ticks = {"values": sorted({row["x"] for row in rows}), "format": "~g", "labelOverlap": True}
    x = (
        field("x", _short(axis), scale={"type": "log"}, axis=ticks)
        if numeric
        else category("x", title=_short(axis), axis={"labelAngle": 0}, sort=None)
    )
    y = field("accuracy", "validation, percent", scale={"zero": False})
    several = len({row["others"] for row in rows}) > 1
    others = list(dict.fromkeys(row["others"] for row in rows))
    series = (
        {
            "color": category("others", scale={"domain": others, "range": SERIES * 3}),
            "shape": category("others", scale={"domain": others, "range": SHAPES * 3}),
        }
        if several
        else {}
    )
    colour = {} if several else {"color": SERIES[0]}
    name = f"{title}, {found['labels']} labels"
    line = {"x": x, "y": y} | ({"color": series["color"]} if several else {})
    layers: list[Spec] = [
        {"mark": {"type": "line", "strokeWidth": 1.5} | colour, "encoding": line},
        {
            "mark": {"type": "point", "filled": True, "size": 50, "opacity": 1} | colour,
            "encoding": {"x": x, "y": y} | series,
        },
        {
            "transform": [{"filter": "datum.chosen"}],
            "mark": {"type": "point", "size": 220, "strokeWidth": 2, "color": "var(--ink)"},
            "encoding": {"x": x, "y": y},
        },
    ]
    about = f"{name}: validation accuracy of each candidate; a ring marks the chosen one"
    return chart(about, title=name, height=160, data={"values": rows}, layer=layers)


def _short(parameter: str) -> str:
    """Name of a hyper-parameter without the part it belongs to."""
    return parameter.rpartition(".")[2].rpartition("__")[2]


def calibration_charts(cells: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Spec]:
    """Calibration errors and class likelihoods, ours and the paper's, a chart for each unit.

    Arguments:
        cells: Name of each cell, and the cell as in `flowgmm.reporting.report.types.Report`.
    """
    titles = {"ece": "calibration error", "nats": "class NLL, nats"}
    charts = []
    for unit in dict.fromkeys(cell["unit"] for _, cell in cells):
        rows = [_reading(name, cell) for name, cell in cells if cell["unit"] == unit]
        if not any(row["ours"] is not None for row in rows):
            continue
        title = titles.get(unit, unit)
        y = category("cell", sort=None, axis={"labelLimit": 190, "grid": True})
        x = field("ours", f"{title}, lower is better", scale={"zero": True})
        layers = [
            {
                "mark": {"type": "rule", "strokeWidth": 2, "color": SERIES[0]},
                "encoding": {"y": y, "x": field("low", x["title"]), "x2": {"field": "high"}},
            },
            {
                "mark": {
                    "type": "point",
                    "filled": True,
                    "size": 70,
                    "opacity": 1,
                    "color": SERIES[0],
                },
                "encoding": {"y": y, "x": x},
            },
            {"mark": PAPER, "encoding": {"y": y, "x": field("paper", x["title"])}},
        ]
        about = f"{title} of {len(rows)} cells: dots are ours, diamonds the paper's"
        charts.append(
            chart(about, title=title, height={"step": 24}, data={"values": rows}, layer=layers)
        )
    return charts


def _reading(name: str, cell: Mapping[str, Any]) -> Spec:
    interval, printed = cell["interval"] or {}, cell["printed"] or {}
    return {
        "cell": name,
        "ours": cell["value"],
        "paper": printed.get("value"),
        "low": interval.get("low"),
        "high": interval.get("high"),
    }


def comparison_chart(part: Mapping[str, Any]) -> Spec | None:
    """Interval of a claim's comparison against the bounds that its rule sets; None without one.

    Arguments:
        part: As in `flowgmm.reporting.report.types.Report`.
    """
    if part["interval"] is None:
        return None
    low, high = part["interval"]
    bounds = [{"value": value} for value in part["bounds"].values()]
    hidden = field("value", scale={"zero": False, "nice": False, "padding": 8}, axis=None)
    rows = [{"value": low, "high": high, "estimate": part["estimate"]}]
    colour = {"color": SERIES[0]}
    layers = [
        {
            "data": {"values": bounds},
            "mark": {"type": "rule", "strokeDash": [3, 2], "color": "var(--ink)"},
            "encoding": {"x": hidden},
        },
        {
            "data": {"values": [{"value": value} for value in part["values"]]},
            "mark": {"type": "tick", "size": 9, "opacity": 0.45} | colour,
            "encoding": {"x": hidden},
        },
        {
            "data": {"values": rows},
            "mark": {"type": "rule", "strokeWidth": 3} | colour,
            "encoding": {"x": hidden, "x2": {"field": "high"}},
        },
        {
            "data": {"values": rows},
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1} | colour,
            "encoding": {"x": hidden | {"field": "estimate"}},
        },
    ]
    about = f"{part['title']}: interval against its bound, {part['rule']}"
    return chart(about, height=18, layer=layers) | {"width": 150}


def cost_chart(lines: Sequence[Mapping[str, Any]]) -> Spec | None:
    """Hours of each target, measured and estimated; None if no target costs any.

    Arguments:
        lines: As in `flowgmm.reporting.report.types.Cost`.
    """
    kinds = {"measured": "measured", "missing": "estimated, still missing"}
    rows = [
        {"target": line["target"], "kind": kind, "hours": line[key]}
        for line in lines
        for key, kind in kinds.items()
        if line[key]
    ]
    if not rows:
        return None
    kind = category("kind", scale={"domain": list(kinds.values()), "range": ["circle", "square"]})
    colour = category("kind", scale={"domain": list(kinds.values()), "range": SERIES[:2]})
    encoding = {
        "y": category("target", sort=None, axis={"grid": True}),
        # From minutes to years.
        "x": field(
            "hours",
            "hours",
            scale={"type": "log"},
            axis={"format": "~g", "tickCount": 5, "labelOverlap": True},
        ),
        "color": colour,
        "shape": kind,
    }
    return chart(
        "Hours of compute by table, figure and analysis, measured and estimated",
        height={"step": 20},
        data={"values": rows},
        mark={"type": "point", "filled": True, "size": 70, "opacity": 1},
        encoding=encoding,
    )
