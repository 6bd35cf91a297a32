"""Style sheets that all pages share: the report's, that of `flowgmm fit`, the documentation's."""

from pathlib import Path

__all__ = ["style_sheet", "verdict_mark"]


def style_sheet() -> str:
    """Text of both style sheets, which a page embeds: it needs no other file."""
    folder = Path(__file__).parent
    names = ("page.css", "verdicts.css")
    return "".join((folder / name).read_text(encoding="utf-8") for name in names)


def verdict_mark(word: str, text: str | None = None) -> str:
    """Mark a verdict or decision, which the style sheet gives a shape and a colour.

    Arguments:
        word: One of `flowgmm.evaluation.verdicts.WORDS`, or a decision on a claim.
        text: HTML to show; None: the word.

    >>> verdict_mark("not run")
    '<span class="verdict not-run">not run</span>'
    """
    return f'<span class="verdict {word.replace(" ", "-")}">{text or word}</span>'
