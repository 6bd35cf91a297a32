"""Charts of a cell's drawer, which the browser draws when it is opened."""

from flowgmm.reporting.report.vega import SERIES, Spec, category, chart, field

__all__ = ["drawer_charts"]


def drawer_charts() -> dict[str, Spec]:
    """Charts of a cell's drawer; the browser gives them their data.

    Returns:
        ``strip``: data sets ``seeds`` (row, value, status) and ``marks`` (row, value, low, high);
        ``history``: ``curves`` (seed, step, value); ``confusion``: ``counts`` (truth, predicted, n,
        share of the true class).
    """
    return {"strip": _strip(), "history": _history(), "confusion": _confusion()}


def _strip() -> Spec:
    row = category("row", sort=["each seed", "our interval", "the paper's"])
    value, low = (field(name, scale={"zero": False}) for name in ("value", "low"))
    status = {"domain": ["ok", "failed"], "range": ["circle", "cross"]}
    seed = {"type": "point", "filled": True, "size": 70, "opacity": 0.5, "color": SERIES[0]}
    layers = [
        {
            "data": {"name": "marks"},
            "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.7, "color": SERIES[1]},
            "encoding": {"y": row, "x": low, "x2": {"field": "high"}},
        },
        {
            "data": {"name": "marks"},
            "mark": {"type": "tick", "thickness": 3, "size": 18, "color": SERIES[1]},
            "encoding": {"y": row, "x": value},
        },
        {
            "data": {"name": "seeds"},
            "mark": seed,
            "encoding": {
                "y": row,
                "x": value,
                "shape": category("status", scale=status, legend=None),
            },
        },
    ]
    about = "Value of every seed, our interval, and the printed value with its margin"
    return chart(about, height={"step": 30}, layer=layers)


def _history() -> Spec:
    return chart(
        "Training curve of each seed",
        height=120,
        data={"name": "curves"},
        mark={"type": "line", "strokeWidth": 1.2, "opacity": 0.8},
        encoding={
            "x": field("step", "step", axis={"format": "~s", "tickCount": 5}),
            "y": field("value", scale={"zero": False}, axis={"tickCount": 4}),
            "color": category("seed", legend=None),
        },
    )


def _confusion() -> Spec:
    above = {"labelAngle": -45, "orient": "top", "labelLimit": 90}
    cells = {
        "x": category("predicted", sort=None, title="predicted", axis=above),
        "y": category("truth", sort=None, title="true", axis={"labelLimit": 110}),
    }
    shade = {"domain": [0, 1], "range": [0.02, 0.55]}
    layers = [
        {
            "mark": {"type": "rect", "color": SERIES[0]},
            "encoding": cells | {"opacity": field("share", scale=shade, legend=None)},
        },
        {
            "mark": {"type": "text", "fontSize": 11, "color": "var(--ink)"},
            "encoding": cells | {"text": {"field": "n"}},
        },
    ]
    about = "Confusion matrix of the test points, summed over seeds"
    return chart(about, height={"step": 30}, data={"name": "counts"}, layer=layers)
