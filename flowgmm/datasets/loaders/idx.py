"""Images in the format of MNIST: gzipped idx files, shared by FashionMNIST and others."""

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowgmm.datasets.loaders.images import keep_shares
from flowgmm.datasets.types import Images
from flowgmm.utils.errors import UserError

__all__ = ["load_idx", "read_idx"]


def load_idx(
    raw: Path,
    *,
    train: str = "train",
    test: str = "t10k",
    classes: Sequence[str] = tuple("0123456789"),
    keep: Sequence[float] | None = None,
    seed: int = 0,
) -> Images:
    """Read ``{part}-images-idx3-ubyte.gz`` and ``{part}-labels-idx1-ubyte.gz`` of both parts.

    Arguments:
        raw: Folder with the four files.
        train: First word of the training files' names.
        test: First word of the test files' names.
        classes: Names of the classes.
        keep: Share of each class of the training part that is kept (App. K); None: all.
        seed: Number of the draw of `keep`.

    Raises:
        UserError: If a file is missing, cut off or of another format, the numbers of images and
            labels differ, or a label is outside the classes.

    Source: spec 7.
    """
    (X, y), (X_test, y_test) = (read_idx(raw, part, len(classes)) for part in (train, test))
    data = Images(X, y, X_test, y_test, list(classes))
    return data if keep is None else keep_shares(data, keep, seed)


def read_idx(raw: Path, part: str, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, shape (N, 1, H, W) uint8, and labels, shape (N,) int64, of one part.

    Arguments:
        raw: Folder with the two files.
        part: First word of their names.
        n_classes: Number of classes.

    Raises:
        UserError: As `load_idx`.
    """
    images, labels = (raw / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
    X, y = _unpack(images, 3), _unpack(labels, 1)
    if len(X) != len(y):
        raise UserError(
            f"{images} has {len(X)} images, {labels.name} has {len(y)} labels; "
            "delete both and fetch them again"
        )
    if y.max(initial=0) >= n_classes:
        raise UserError(
            f"{labels}: label {y.max()} is outside 0..{n_classes - 1}; "
            "correct the file or the list `classes`"
        )
    return X[:, None], y.astype(np.int64)


def _unpack(path: Path, n_axes: int) -> np.ndarray:
    """Read an array of bytes: two zeros, type 8 (byte), number of axes, their lengths, values."""
    try:
        with gzip.open(path) as handle:
            content = handle.read()
    except FileNotFoundError as error:
        raise UserError(f"{path} not found; run the rule download_file") from error
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(
            f"{path} is cut off or damaged ({error}); delete it and fetch it again"
        ) from error
    magic = bytes([0, 0, 8, n_axes])
    if content[:4] != magic:
        raise UserError(
            f"{path} starts with bytes {content[:4].hex()}, expected {magic.hex()} of an idx file "
            f"with {n_axes} axes; replace it with the official file"
        )
    start = 4 + 4 * n_axes
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    values = np.frombuffer(content, np.uint8)[start:]
    if len(content) < start or len(values) != math.prod(shape):
        raise UserError(
            f"{path} has {len(values)} values where its header says {' x '.join(map(str, shape))}; "
            "it is cut off or damaged: delete it and fetch it again"
        )
    return values.reshape(shape)
