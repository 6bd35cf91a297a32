"""Published results as a data frame: one row per cell of the tables in docs/results."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from flowgmm.utils.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["load_results"]

# The repository's own; an installed package has none beside it.
FOLDER = Path(__file__).parents[2] / "docs" / "results"


def load_results(recipe: str, folder: str | os.PathLike[str] | None = None) -> "DataFrame":
    """Load the published results of a recipe.

    Arguments:
        recipe: Name of the recipe, such as ``"official"``.
        folder: Folder of published results; None: ``docs/results`` of the repository.

    Returns:
        One row per cell. ``recipe``, ``table``, ``row`` (method or analysis) and ``column``
        (``dataset/labels``, or the title of an analysis's number) name the cell; ``metric``,
        ``unit``, ``value``, ``spread``, ``n``, ``low`` and ``high`` (ends of the interval) are our
        number, NaN where there is none; ``printed`` and ``printed_spread`` are the paper's;
        ``verdict`` and ``why`` compare the two.

    Raises:
        UserError: If the folder or the recipe is missing.

    Examples:
        >>> import flowgmm
        >>> results = flowgmm.load_results("official")  # doctest: +SKIP
        >>> results.query("table == 'table_7' and row == 'flowgmm'").value  # doctest: +SKIP
    """
    import pandas as pd

    root = FOLDER if folder is None else Path(folder)
    if not root.is_dir():
        raise UserError(
            f"{root} is missing, which holds the published results; clone the repository, or give "
            "`folder`"
        )
    paths = sorted(root.glob(f"{recipe}/tables/*.csv")) if Path(recipe).name == recipe else []
    if not paths:
        known = sorted({path.parents[1].name for path in root.glob("*/tables/*.csv")})
        raise UserError(
            f"{root} has no results of recipe {recipe!r}; expected one of {', '.join(known)}"
        )
    return pd.concat([_cells(path) for path in paths], ignore_index=True)


def _cells(path: Path) -> "DataFrame":
    """Cells of one csv, of a table or of the overview of analyses."""
    import pandas as pd

    read = pd.read_csv(path)
    if "analysis" in read:
        read = read.rename(columns={"analysis": "row", "number": "column", "n_seeds": "n"})
        read["table"], read["metric"] = path.stem, ""
    else:
        read["row"] = read["method"]
        read["column"] = read["dataset"] + "/" + read["labels"].astype(str)
    read = read.rename(columns={"paper": "printed", "paper_spread": "printed_spread"})
    numbers = ("value", "spread", "n", "low", "high", "printed", "printed_spread")
    texts = ("recipe", "table", "row", "column", "metric", "unit", "verdict", "why")
    return pd.DataFrame(
        {
            key: read[key].astype(object).fillna("").astype(str) if key in read else ""
            for key in texts[:6]
        }
        | {key: pd.to_numeric(read[key]) if key in read else float("nan") for key in numbers}
        | {
            key: read[key].astype(object).fillna("").astype(str) if key in read else ""
            for key in texts[6:]
        }
    )
