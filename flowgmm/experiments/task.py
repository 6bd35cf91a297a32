"""Task of one seed: the rows, labels and split that a training may see."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_tensors

__all__ = ["Task", "digest", "load_task", "part_rows"]


@dataclass(frozen=True)
class Task:
    """Labels that the training of one seed may see.

    Attributes:
        rows: Rows of the training part to learn from, shape (n,).
        y: Their labels, -1 where hidden, shape (n,).
        split: Rows of labelled, unlabelled and validation points.
        y_val: Labels of the validation points, shape (n_val,).
    """

    rows: np.ndarray
    y: np.ndarray
    split: dict[str, np.ndarray]
    y_val: np.ndarray


def load_task(
    spec: Mapping[str, Any], y_train: np.ndarray, number: int, path: Path, given: tuple[Path, str]
) -> Task:
    """Load rows and labels of one split; labels of unlabelled points are hidden.

    Arguments:
        spec: Spec of the job.
        y_train: Labels of the training part, shape (N,).
        number: Number of the split.
        path: Split file.
        given: Features file and its sha256, from which the split must have been drawn.

    Raises:
        UserError: If the file is another split, or one of other features.
    """
    split, meta = read_tensors(path, ["labelled", "unlabelled", "val"])
    expected = {"dataset": spec["dataset"], "labels": spec["labels"], "split": number}
    if found := {k: meta.get(k) for k, v in expected.items() if meta.get(k) != v}:
        raise UserError(
            f"{path} is another split: expected {expected}, got {found}; delete it and run again"
        )
    features, digest = given
    if meta.get("features_sha256") != digest:
        raise UserError(
            f"{path} was drawn from other features than {features}; delete both and run again"
        )
    rows = split["labelled"]
    if not spec["labelled_only"]:
        rows = np.union1d(rows, split["unlabelled"])
    known = np.isin(rows, split["labelled"])
    return Task(rows, np.where(known, y_train[rows], -1), split, y_train[split["val"]])


def digest(X: np.ndarray, tasks: Sequence[Task]) -> str:
    """Hexadecimal SHA-256 of all inputs and labels that tasks may see."""
    digest = hashlib.sha256()
    for array in (X, *(a for t in tasks for a in (t.rows, t.y, *t.split.values(), t.y_val))):
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def part_rows(task: Task, part: str) -> np.ndarray:
    """Training rows of ``val`` or ``unlabelled``; labelled points never count as unlabelled."""
    if part == "val":
        return task.split["val"]
    return np.setdiff1d(task.split["unlabelled"], task.split["labelled"])
