"""Vega-Lite for the report: its library, its drawing as SVG, and what all charts share.

Colours are those of the style sheet (``var(--...)``), so that a chart follows the page from light
to dark.
"""

from typing import Any

__all__ = ["SERIES", "SHAPES", "Spec", "category", "chart", "field", "library", "svg"]

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


def chart(description: str, **parts: Any) -> Spec:
    """Begin a chart: its description for who cannot see it, its size and style."""
    return {"description": description, "width": WIDTH, "config": CONFIG} | parts


def field(name: str, title: str | None = None, **more: Any) -> Spec:
    """Encode a number."""
    return {"field": name, "type": "quantitative", "title": title} | more


def category(name: str, **more: Any) -> Spec:
    """Encode a name."""
    return {"field": name, "type": "nominal", "title": None} | more
