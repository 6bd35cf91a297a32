"""Style sheet that all pages share: the report's, and that of `flowgmm fit`."""

from pathlib import Path

__all__ = ["style_sheet"]


def style_sheet() -> str:
    """Text of `page.css`, which a page embeds: it needs no other file."""
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")
