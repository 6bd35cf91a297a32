"""Real sets that come inside scikit-learn."""

from pathlib import Path
from typing import Literal

from flowgmm.datasets.types import Arrays
from flowgmm.utils.seeds import derive

__all__ = ["load_packaged"]


def load_packaged(
    raw: Path, *, name: Literal["digits", "breast_cancer"], test_fraction: float, seed: int = 0
) -> Arrays:
    """Split one of scikit-learn's sets, by class.

    Arguments:
        raw: Unused; nothing is fetched.
        name: ``digits``: 8 x 8 images as 64 grey values; ``breast_cancer``: 30 measurements.
        test_fraction: Share of the rows in the test part.
        seed: Number of the draw.
    """
    from sklearn.datasets import load_breast_cancer, load_digits
    from sklearn.model_selection import train_test_split

    bunch = {"digits": load_digits, "breast_cancer": load_breast_cancer}[name]()
    X_train, X_test, y_train, y_test = train_test_split(
        bunch.data,
        bunch.target,
        test_size=test_fraction,
        stratify=bunch.target,
        random_state=derive(name, seed, "split"),
    )
    return Arrays(
        X_train,
        y_train,
        X_test,
        y_test,
        classes=[str(label) for label in bunch.target_names],
        columns=[str(column) for column in bunch.feature_names],
    )
