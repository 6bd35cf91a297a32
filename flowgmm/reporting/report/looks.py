"""Look of the page: its templates, style sheets and script, which are no Python."""

from pathlib import Path

from flowgmm.reporting.style import style_sheet

__all__ = ["TEMPLATES", "looks", "template"]

TEMPLATES = Path(__file__).parent / "templates"


def template(name: str) -> str:
    """Text of a file in `templates`."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def looks() -> dict[str, str]:
    """Texts of all files that shape the page, by name: a page of others is stale."""
    texts = {path.name: template(path.name) for path in sorted(TEMPLATES.iterdir())}
    return texts | {"shared": style_sheet()}
