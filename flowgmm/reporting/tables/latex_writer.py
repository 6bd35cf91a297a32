"""Write a table as a LaTeX document."""

from collections.abc import Sequence

from flowgmm.reporting.tables.cells import Table
from flowgmm.reporting.tables.claim import claim_sentences
from flowgmm.reporting.tables.layout import Grid, caption, legend

__all__ = ["escape", "latex_text"]

LATEX = {
    "\\": r"\textbackslash{}",
    **{char: "\\" + char for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "Π": r"$\Pi$",
    "\N{EN DASH}": "--",
    "[": "{[}",  # after \\ a bracket would be read as a length
    "]": "{]}",
}


def latex_text(table: Table) -> str:
    """LaTeX document of a table; the part between the two rules can be copied into another."""
    grid = Grid(table)

    def text(lines: Sequence[str], numbers: Sequence[int]) -> str:
        marks = rf"\textsuperscript{{{', '.join(map(str, numbers))}}}" if numbers else ""
        body = r"\\".join(escape(line) for line in lines) + marks
        return rf"\shortstack[l]{{{body}}}" if len(lines) > 1 else body

    n = len(grid.header)
    lines = [
        r"\documentclass{article}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage[a4paper,landscape,margin=1cm]{geometry}",
        r"\usepackage{booktabs,graphicx}",
        r"\begin{document}",
        r"\thispagestyle{empty}\noindent\footnotesize",
        rf"\textbf{{{escape(caption(table))}}}\par\medskip\noindent",
        # A table wider than the page is made smaller, others stay as they are.
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"
        rf"\begin{{tabular}}{{{'l' * n}}}",
        r"\toprule",
        " & ".join(text([title], numbers) for title, numbers in grid.header) + r" \\",
        r"\midrule",
    ]
    for section, row in grid.body:
        if section:
            lines.append(r"\midrule")
            lines.append(rf"\multicolumn{{{n}}}{{l}}{{\emph{{{escape(section)}}}}} \\")
        lines.append(" & ".join(text(cell, numbers) for cell, numbers, _ in row) + r" \\[2pt]")
    lines += [
        r"\bottomrule",
        r"\end{tabular}}",
        rf"\par\medskip\noindent {escape(legend(table))}",
    ]
    if table.claim is not None:
        lines.append(rf"\par\noindent {escape(' '.join(claim_sentences(table.claim)))}")
    for number, note in enumerate(grid.notes, start=1):
        lines.append(rf"\par\noindent\textsuperscript{{{number}}} {escape(note)}")
    lines += [r"\end{document}", ""]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Escape text so that LaTeX prints it as it stands."""
    return "".join(LATEX.get(char, char) for char in text)
