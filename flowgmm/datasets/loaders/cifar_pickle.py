"""Batches of the Python archive of CIFAR-10, unpickled without running code."""

import io
import pickle
from typing import Any

import numpy as np

from flowgmm.utils.errors import UserError

__all__ = ["unpickle_batch"]

# What Python 2 and NumPy 1 wrote for a dict with one array of bytes.
_ARRAY = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _Record:
    """Stand-in for an array or its type: keeps what the pickle says about it.

    NumPy itself never sees the state of an unknown file.
    """

    def __init__(self, *arguments: Any) -> None:
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Unpickler of plain values and of `_Record`; any other name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ARRAY:
            return _Record
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def unpickle_batch(content: bytes, where: str) -> bytes:
    """Read a pickled batch as the rows of the binary archive.

    Arguments:
        content: The pickle: a dict with ``labels``, N numbers of 0 to 255, and ``data``, an array
            of N rows of bytes.
        where: Archive and member, for messages.

    Returns:
        For each image its label, one byte, and its row.

    Raises:
        UserError: If the pickle has anything else, or is damaged.
    """
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        _, shape, dtype, by_column, values = batch["data"].state
        if dtype.arguments[:1] != ("u1",) or by_column:
            raise ValueError(f"its array is of type {dtype.arguments[:1]}")
        pixels = np.frombuffer(values.encode("latin1"), np.uint8).reshape(shape)
        labels = np.array(batch["labels"], np.uint8).reshape(-1, 1)
        return np.concatenate([labels, pixels], axis=1).tobytes()
    # A damaged pickle raises nearly anything.
    except (
        pickle.UnpicklingError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        IndexError,
        OverflowError,
        MemoryError,
    ) as error:
        raise UserError(
            f"{where} is no batch of CIFAR-10 ({' '.join(str(error).split())}); delete the archive "
            "and fetch it again"
        ) from error
