"""Download of raw files with pooch, or copy from a mirror or this machine; verified."""

import logging
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowgmm.utils.errors import UserError
from flowgmm.utils.io import atomic_path, sha256
from flowgmm.utils.progress import Progress

__all__ = ["absent", "download_file", "resolve"]

# Seconds without data after which a download has failed.
TIMEOUT_S = 60.0


def resolve(
    entry: Mapping[str, Any], mirror: Path | None
) -> tuple[dict[str, dict[str, Any]], list[str], list[str]]:
    """Choose the files of a dataset, given the mirror.

    If files are missing from the mirror and one set of the entry's `alternative_files` is complete,
    that set replaces the dataset's files. A file that is still missing is replaced by the first of
    its `alternatives` in the mirror or, with a `path`, on this machine, under the file's name.

    Arguments:
        entry: Entry of `config/datasets.yaml`.
        mirror: Folder that replaces the network; None: download.

    Returns:
        The files, as arguments of `download_file`; notes of the chosen alternatives; reasons for
        which these make results not comparable with the paper's.

    Raises:
        UserError: If the mirror is not a folder.
    """
    _check_mirror(mirror)
    files: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    reasons: list[str] = []
    sets = [entry.get("files", {}), *entry.get("alternative_files", [])]
    whole = (s for s in sets if mirror and all(_exists(file, mirror) for file in s.values()))
    for name, declared in next(whole, sets[0]).items():
        file = {key: value for key, value in declared.items() if key != "alternatives"}
        if mirror is not None and not _exists(file, mirror):
            alternatives = declared.get("alternatives", [])
            file = next((dict(other) for other in alternatives if _exists(other, mirror)), file)
        for key, said in (("note", notes), ("not_comparable", reasons)):
            if key in file:
                said.append(file.pop(key))
        files[name] = file
    return files, notes, reasons


def absent(entry: Mapping[str, Any], mirror: Path | None) -> str | None:
    """Reason for which a dataset's raw files are missing; None if they are not, or none are needed.

    Published tables quote it for runs that were not made.

    Raises:
        UserError: If the mirror is not a folder.
    """
    for name, file in resolve(entry, mirror)[0].items():
        if "rules" in file:
            continue  # made by the workflow itself
        if "path" in file:
            if not Path(file["path"]).is_file():
                return f"data absent: {file['path']} not found"
            continue
        if mirror is None and not file.get("url"):
            return f"{name} has no URL; set `mirror` to a folder that has {file['mirror']}"
        if mirror is not None and not _exists(file, mirror):
            return f"data absent: the mirror lacks {file['mirror']}"
    return None


def download_file(
    file: Mapping[str, Any],
    destination: Path,
    mirror: Path | None,
    progress: Progress | None = None,
    retries: int = 3,
) -> str:
    """Download or copy a file and verify it; after any failure `destination` does not exist.

    Arguments:
        file: One of the files from `resolve`: `url` (a list, tried in order), `sha256` or `md5`
            where the official checksum is known, `mirror` (path inside the mirror); or `path`, a
            file of this machine that neither network nor mirror replaces.
        destination: Path of the file.
        mirror: Folder that replaces the network; None: download.
        progress: Called at most every few seconds with (bytes, bytes in all or 0, line of text).
        retries: Number of further tries of a failed download, a few seconds apart.

    Returns:
        The file's sha256.

    Raises:
        UserError: If the file is missing, or its checksum is not the expected one.
    """
    _check_mirror(mirror)
    with atomic_path(destination) as part:
        destination.unlink(missing_ok=True)
        if "path" in file:
            remedy = "put the file back, or correct the entry in config/datasets.yaml"
            _copy(file, Path(file["path"]), part, remedy, remedy)
        elif mirror is None:
            _download(file, destination, part, progress, retries)
        else:
            missing = "add it to the mirror or unset `mirror`"
            wrong = "replace it with the official file or unset `mirror`"
            _copy(file, mirror / file["mirror"], part, missing, wrong)
        return sha256(part)


def _copy(file: Mapping[str, Any], source: Path, part: Path, missing: str, wrong: str) -> None:
    """Copy and verify; `missing` and `wrong` are the remedies for a missing and a wrong file."""
    if not source.is_file():
        raise UserError(f"{source} not found; {missing}")
    shutil.copyfile(source, part)
    _verify(file, part, str(source), wrong)


def _check_mirror(mirror: Path | None) -> None:
    if mirror is not None and not mirror.is_dir():
        raise UserError(
            f"mirror {str(mirror)!r} is not a folder; correct `mirror` in the config, "
            "or unset it to download"
        )


def _exists(file: Mapping[str, Any], mirror: Path) -> bool:
    """Check whether a file exists in the mirror or, with a `path`, on this machine."""
    if "path" in file:
        return Path(file["path"]).is_file()
    return "mirror" in file and (mirror / file["mirror"]).is_file()


def _known_hash(file: Mapping[str, Any]) -> str | None:
    """The checksum in pooch's notation; None where the source publishes none."""
    return next((f"{kind}:{file[kind]}" for kind in ("sha256", "md5") if kind in file), None)


def _verify(file: Mapping[str, Any], path: Path, name: str, remedy: str) -> None:
    import pooch

    expected = _known_hash(file)
    if expected is None:
        return
    kind = expected.split(":")[0]
    got = f"{kind}:{pooch.file_hash(str(path), alg=kind)}"
    if got != expected:
        size = path.stat().st_size
        raise UserError(f"{name} ({size} bytes) has {got}, expected {expected}; {remedy}")


def _download(
    file: Mapping[str, Any], destination: Path, part: Path, progress: Progress | None, retries: int
) -> None:
    """Try the URLs in order; pooch downloads to a folder of its own and checks there."""
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    name, failures = destination.name, []
    for url in file.get("url", []):
        with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{name}.") as folder:
            getter = pooch.create(
                folder,
                base_url="",
                registry={name: _known_hash(file)},
                urls={name: url},
                retry_if_failed=retries,
            )
            downloader = pooch.HTTPDownloader(
                progressbar=_Progress(name, progress), chunk_size=2**20, timeout=TIMEOUT_S
            )
            try:
                Path(getter.fetch(name, downloader=downloader)).replace(part)
                return
            except (requests.exceptions.RequestException, OSError, ValueError) as error:
                failures.append(f"{url}: {' '.join(str(error).split())}")
    remedy = "check the network and the URL"
    if "mirror" in file:
        remedy += f", or set `mirror` to a folder that has {file['mirror']}"
    reason = "; ".join(failures) or "no URL is known"
    raise UserError(f"cannot download {name} ({reason}); {remedy}")


class _Progress:
    """Progress bar for pooch that calls `progress` every few seconds."""

    def __init__(self, name: str, progress: Progress | None) -> None:
        self.total = 0
        self._name, self._progress = name, progress
        self._done, self._reported, self._start = 0, 0.0, time.monotonic()

    def update(self, count: int) -> None:
        """Count `count` further bytes."""
        self._done += count
        elapsed = time.monotonic() - self._start
        if self._progress and (elapsed - self._reported > 3 or self._done == self.total):
            self._reported = elapsed
            rate = self._done / 1e6 / max(elapsed, 1e-9)
            self._progress(self._done, self.total, f"{self._name}: {rate:.1f} MB/s")

    def reset(self) -> None:
        """Restart the count; pooch calls it once at the end, to draw a full bar."""
        self._done = 0

    def close(self) -> None:
        """Do nothing; pooch requires it."""
