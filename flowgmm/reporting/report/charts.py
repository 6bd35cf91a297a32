"""Charts of the report in Vega-Lite: drawn here for what stands on the page, else in the browser.

Colours are those of the style sheet (``var(--...)``), so that a chart follows the page from light
to dark. Series differ in shape as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "accuracy_charts",
    "browser_charts",
    "calibration_charts",
    "cost_chart",
    "library",
    "svg",
    "tuning_charts",
]

Spec = dict[str, Any]

SERIES = [f"var(--series-{i})" for i in range(1, 7)]
SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross"]
AXIS = {
    "labelColor": "var(--ink)",
    "titleColor": "var(--soft)",
    "domainColor": "var(--line)",
    "tickColor": "var(--line)",
    "gridColor": "var(--grid)",
    "labelFontSize": 12,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "labelLimit": 260,
}
CONFIG = {
    "background": None,
    # Of one width here, where text is measured, and in most browsers.
    "font": "Arial, Liberation Sans, Helvetica, sans-serif",
    "padding": {"left": 8, "right": 12, "top": 5, "bottom": 5},
    "view": {"stroke": None},
    "axis": AXIS,
    "title": {"color": "var(--ink)", "fontSize": 13, "anchor": "start", "fontWeight": 600},
    "legend": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--soft)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "labelLimit": 260,
        "orient": "bottom",
        "columns": 2,
        "columnPadding": 24,
        "symbolOpacity": 1,
    },
    "range": {"category": SERIES},
}
PAPER = {"type": "point", "shape": "diamond", "size": 90, "color": "var(--ink)", "strokeWidth": 1.5}
# Width of a chart that also fits a phone, in pixels.
WIDTH = 290


def library() -> str:
    """JavaScript of Vega-Lite, as a script without end tags that an HTML page can hold."""
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    # In a function, which keeps its names from the page's.
    text = f"(() => {{{bundle}\n}})();"
    return text.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def svg(spec: Spec) -> str:
    """Draw a chart as SVG."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(spec))


def _chart(description: str, **parts: Any) -> Spec:
    return {"description": description, "width": WIDTH, "config": CONFIG} | parts


def _field(name: str, title: str | None = None, **more: Any) -> Spec:
    return {"field": name, "type": "quantitative", "title": title} | more


def _category(name: str, **more: Any) -> Spec:
    return {"field": name, "type": "nominal", "title": None} | more


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
        x = _field("labels", "labels", scale={"type": "log"}, axis={"values": sizes, "format": "d"})
        y = _field("ours", "accuracy, percent", scale={"zero": False})
        shape = _category("method", scale={"domain": titles, "range": SHAPES * 3})
        colour = _category("method", scale={"domain": titles, "range": SERIES * 3})
        name = own[0]["dataset_title"]
        layers = [
            {
                "mark": {"type": "rule", "strokeWidth": 1, "opacity": 0.6},
                "encoding": {
                    "x": x,
                    "y": _field("low", y["title"]),
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
            {"mark": PAPER, "encoding": {"x": x, "y": _field("paper", y["title"])}},
        ]
        about = f"{name}: accuracy of {', '.join(titles)} against the number of labels"
        charts.append(_chart(about, title=name, height=220, data={"values": rows}, layer=layers))
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
        _field("x", _short(axis), scale={"type": "log"}, axis=ticks)
        if numeric
        else _category("x", title=_short(axis), axis={"labelAngle": 0}, sort=None)
    )
    y = _field("accuracy", "validation, percent", scale={"zero": False})
    several = len({row["others"] for row in rows}) > 1
    others = list(dict.fromkeys(row["others"] for row in rows))
    series = (
        {
            "color": _category("others", scale={"domain": others, "range": SERIES * 3}),
            "shape": _category("others", scale={"domain": others, "range": SHAPES * 3}),
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
    return _chart(about, title=name, height=160, data={"values": rows}, layer=layers)


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
        y = _category("cell", sort=None, axis={"labelLimit": 190, "grid": True})
        x = _field("ours", f"{title}, lower is better", scale={"zero": True})
        layers = [
            {
                "mark": {"type": "rule", "strokeWidth": 2, "color": SERIES[0]},
                "encoding": {"y": y, "x": _field("low", x["title"]), "x2": {"field": "high"}},
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
            {"mark": PAPER, "encoding": {"y": y, "x": _field("paper", x["title"])}},
        ]
        about = f"{title} of {len(rows)} cells: dots are ours, diamonds the paper's"
        charts.append(
            _chart(about, title=title, height={"step": 24}, data={"values": rows}, layer=layers)
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
    kind = _category("kind", scale={"domain": list(kinds.values()), "range": ["circle", "square"]})
    colour = _category("kind", scale={"domain": list(kinds.values()), "range": SERIES[:2]})
    encoding = {
        "y": _category("target", sort=None, axis={"grid": True}),
        # From minutes to years.
        "x": _field("hours", "hours", scale={"type": "log"}, axis={"format": "~g", "tickCount": 6}),
        "color": colour,
        "shape": kind,
    }
    return _chart(
        "Hours of compute by table, figure and analysis, measured and estimated",
        height={"step": 20},
        data={"values": rows},
        mark={"type": "point", "filled": True, "size": 70, "opacity": 1},
        encoding=encoding,
    )


def browser_charts() -> dict[str, Spec]:
    """Charts of a cell's drawer; the browser gives them their data.

    Returns:
        ``strip``: data sets ``seeds`` (row, value, status) and ``marks`` (row, value, low, high);
        ``history``: ``curves`` (seed, step, value); ``confusion``: ``counts`` (truth, predicted, n,
        share of the true class).
    """
    y = _category("row", sort=["each seed", "our interval", "the paper's"])
    x = _field("value", None, scale={"zero": False})
    status = {"domain": ["ok", "failed"], "range": ["circle", "cross"]}
    strip = _chart(
        "Value of every seed, our interval, and the printed value with its margin",
        height={"step": 30},
        layer=[
            {
                "data": {"name": "marks"},
                "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.7},
                "encoding": {
                    "y": y,
                    "x": _field("low", None, scale={"zero": False}),
                    "x2": {"field": "high"},
                },
            },
            {
                "data": {"name": "marks"},
                "mark": {"type": "tick", "thickness": 3, "size": 18},
                "encoding": {"y": y, "x": x},
            },
            {
                "data": {"name": "seeds"},
                "mark": {
                    "type": "point",
                    "filled": True,
                    "size": 70,
                    "opacity": 0.5,
                    "color": SERIES[0],
                },
                "encoding": {
                    "y": y,
                    "x": x,
                    "shape": _category("status", scale=status, legend=None),
                },
            },
        ],
    )
    for layer in strip["layer"][:2]:
        layer["mark"]["color"] = SERIES[1]
    history = _chart(
        "Training curve of each seed",
        height=120,
        data={"name": "curves"},
        mark={"type": "line", "strokeWidth": 1.2, "opacity": 0.8},
        encoding={
            "x": _field("step", "step", axis={"format": "~s", "tickCount": 5}),
            "y": _field("value", None, scale={"zero": False}, axis={"tickCount": 4}),
            "color": _category("seed", legend=None),
        },
    )
    cells = {
        "x": _category(
            "predicted",
            sort=None,
            title="predicted",
            axis={"labelAngle": -45, "orient": "top", "labelLimit": 90},
        ),
        "y": _category("truth", sort=None, title="true", axis={"labelLimit": 110}),
    }
    confusion = _chart(
        "Confusion matrix of the test points, summed over seeds",
        height={"step": 30},
        data={"name": "counts"},
        layer=[
            {
                "mark": {"type": "rect", "color": SERIES[0]},
                "encoding": cells
                | {
                    "opacity": _field(
                        "share", scale={"domain": [0, 1], "range": [0.02, 0.55]}, legend=None
                    )
                },
            },
            {
                "mark": {"type": "text", "fontSize": 11, "color": "var(--ink)"},
                "encoding": cells | {"text": {"field": "n"}},
            },
        ],
    )
    return {"strip": strip, "history": history, "confusion": confusion}
