"""Small results that stand in git: copies in docs/results, their numbers for `dvc metrics`."""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

from flowgmm.reporting.claims_page import claims_csv
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import atomic_path, read_json, write_text

__all__ = ["publish"]


def publish(results: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Copy a recipe's tables (md, csv) and figures (png); write numbers and decided claims.

    They stand in git beside what DVC keeps, and not in results/: there Snakemake would take them
    for finished work in a clone that has nothing else. Files of another machine that are missing
    here stay.

    Arguments:
        results: `results/{recipe}`.
        folder: Gets `tables/`, `figures/`, `metrics.json`, `accuracies.csv` and, where there is a
            report, `claims.csv`.

    Raises:
        UserError: If no table is found.
    """
    results, folder = Path(results), Path(folder)
    if not list(results.glob("tables/*.csv")):
        raise UserError(f"{results}/tables has no table to publish; make one, or correct `recipe`")
    for pattern in ("tables/*.md", "tables/*.csv", "figures/*.png"):
        for path in sorted(results.glob(pattern)):
            target = folder / path.relative_to(results)
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as part:
                shutil.copyfile(path, part)

    report = results / "report" / "data.json"
    if report.is_file():
        write_text(folder / "claims.csv", claims_csv(read_json(report)["claims"]))

    metrics: dict[str, Any] = {}
    accuracies = ["cell,accuracy"]
    for path in sorted(folder.glob("tables/*.csv")):
        with path.open(encoding="utf-8", newline="") as handle:
            for row in csv.DictReader(handle):
                if not row["value"]:
                    continue
                keys = _keys(row)
                place = metrics.setdefault(path.stem, {})
                for key in keys[:-1]:
                    place = place.setdefault(key, {})
                place[keys[-1]] = float(row["value"])
                if row.get("metric") == "accuracy" and row["evaluate"] == "test":
                    accuracies.append(f"{path.stem} {keys[0]} {keys[1]},{row['value']}")
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2, sort_keys=True) + "\n")
    write_text(folder / "accuracies.csv", "\n".join(accuracies) + "\n")


def _keys(row: dict[str, str]) -> list[str]:
    """Keys of a number in metrics.json, below its table."""
    if "analysis" in row:
        return [row["analysis"], row["number"]]
    cell = f"{row['dataset']}/{row['labels']}"
    return [cell, row["method"], f"{row['evaluate']}_{row['metric']}"]
