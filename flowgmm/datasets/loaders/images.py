"""Common code of loaders of images: archives read member by member, and parts of other sizes."""

import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from flowgmm.datasets.types import Images
from flowgmm.utils.errors import UserError
from flowgmm.utils.seeds import derive

__all__ = ["archive_files", "keep_shares", "move_test_images"]


def archive_files(
    path: Path, wanted: Callable[[tarfile.TarInfo], bool]
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a gzipped tar file's regular files.

    Members are read, never unpacked, so none can climb out of a folder.

    Arguments:
        path: The archive.
        wanted: Whether a member is to be read, from its name and size.

    Raises:
        UserError: If the archive is missing, cut off or damaged.
    """
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                if member.isfile() and wanted(member):
                    content = archive.extractfile(member)
                    if content is not None:  # never, of a file
                        yield member.name, content.read()
    except FileNotFoundError as error:
        raise UserError(f"{path} not found; run the rule download_file") from error
    except (EOFError, OSError, zlib.error, tarfile.TarError) as error:
        raise UserError(
            f"{path} is cut off or damaged ({error}); delete it and fetch it again"
        ) from error


def keep_shares(data: Images, shares: Sequence[float], seed: int) -> Images:
    """A training part with only a share of each class, drawn at random, in the old order.

    Arguments:
        data: The images.
        shares: Share of each class, in (0, 1].
        seed: Number of the draw.

    Raises:
        UserError: If there is not one share a class, or one is out of range.

    Source: spec 2.4, App. K.
    """
    if len(shares) != len(data.classes) or not all(0 < share <= 1 for share in shares):
        raise UserError(
            f"keep is {list(shares)}; give {len(data.classes)} shares, one a class, each above 0 "
            "and at most 1"
        )
    rng = np.random.RandomState(derive("keep", seed, "split"))
    members = [np.flatnonzero(data.y_train == k) for k in range(len(shares))]
    chosen = [
        rng.permutation(rows)[: round(share * len(rows))]
        for rows, share in zip(members, shares, strict=True)
    ]
    rows = np.sort(np.concatenate(chosen))
    counts = ", ".join(str(len(kept)) for kept in chosen)
    return replace(
        data,
        train=data.train[rows],
        y_train=data.y_train[rows],
        notes=[*data.notes, f"training images kept of each class: {counts}"],
    )


def move_test_images(data: Images, count: int, seed: int) -> Images:
    """Random test images moved to the end of the training part, to be validation points there.

    Arguments:
        data: The images.
        count: Number of test images to move.
        seed: Number of the draw.

    Raises:
        UserError: If no test image would be left.

    Source: spec 2.4, Table 5; D34.
    """
    if not 0 < count < len(data.test):
        raise UserError(
            f"test_to_train is {count}, but there are {len(data.test)} test images; "
            "give a number above 0 that leaves some"
        )
    order = np.random.RandomState(derive("test_to_train", seed, "split")).permutation(
        len(data.test)
    )
    moved, stay = np.sort(order[:count]), np.sort(order[count:])
    return replace(
        data,
        train=np.concatenate([data.train, data.test[moved]]),
        y_train=np.concatenate([data.y_train, data.y_test[moved]]),
        test=data.test[stay],
        y_test=data.y_test[stay],
        notes=[*data.notes, f"the last {count} training images come from the official test part"],
    )
