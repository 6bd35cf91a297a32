"""Types of loaded data: tables, texts and images."""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["Arrays", "Data", "Images", "Texts"]


@dataclass(frozen=True)
class Arrays:
    """Table of numbers.

    Attributes:
        X_train: Training part, shape (N, D).
        y_train: Classes 0..K-1, shape (N,); -1 where the truth is unknown.
        X_test: Test part, shape (N_test, D).
        y_test: Classes 0..K-1, shape (N_test,).
        classes: Names of the K classes.
        notes: Sentences that describe how the data were made.
        columns: Names of the D features, for messages; empty: their numbers.
        same_scale: Whether the features share one scale, as an encoder's do. Then a feature with
            a range of a millionth of the median range counts as constant: it is rounding noise.
    """

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    classes: list[str]
    notes: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    same_scale: bool = False


@dataclass(frozen=True)
class Texts:
    """Texts, with fields as in `Arrays`."""

    train: list[str]
    y_train: np.ndarray
    test: list[str]
    y_test: np.ndarray
    classes: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Images:
    """Images, with fields as in `Arrays`.

    Attributes:
        train: Training part, shape (N, C, height, width) uint8; C is 1 (grey) or 3 (red, green,
            blue).
        test: Test part, shape (N_test, C, height, width) uint8.
    """

    train: np.ndarray
    y_train: np.ndarray
    test: np.ndarray
    y_test: np.ndarray
    classes: list[str]
    notes: list[str] = field(default_factory=list)


Data = Arrays | Texts | Images
