"""Download of raw files, or copy from a mirror or this machine; verified."""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowgmm.datasets.archives import extract
from flowgmm.datasets.http import RefusedError, RetriableError, fetch, holds_part
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import atomic_path, sha256
from flowgmm.utils.progress import Progress

__all__ = ["DownloadError", "absent", "download_file", "resolve"]


class DownloadError(UserError):
    """A file that no address gave: only the dataset or encoder that needs it cannot be made.

    Arguments:
        reason: What failed, and why.
        remedy: What to do.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.reason = reason


def resolve(
    entry: Mapping[str, Any], mirror: Path | None
) -> tuple[dict[str, dict[str, Any]], list[str], list[str]]:
    """Choose the files of a dataset, given the mirror.

    If files are missing from the mirror and one set of the entry's `alternative_files` is complete,
    that set replaces the dataset's files. A file that is still missing is replaced by the first of
    its `alternatives` in the mirror or, with a `path`, on this machine, under the file's name.

    Arguments:
        entry: Entry of `config/datasets.yaml`.
        mirror: Folder with raw files, which goes before the network; None: download.

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


def absent(entry: Mapping[str, Any], mirror: Path | None, offline: bool = False) -> str | None:
    """Reason for which a dataset's raw files cannot be had; None if they can, or none are needed.

    Published tables quote it for runs that were not made.

    Arguments:
        entry: Entry of `config/datasets.yaml`.
        mirror: Folder with raw files, which goes before the network; None: there is none.
        offline: Whether there is no network.

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
        if mirror is not None and _exists(file, mirror):
            continue
        if mirror is not None and (offline or not file.get("url")):
            return f"data absent: the mirror lacks {file.get('mirror', name)}"
        if not file.get("url"):
            return f"{name} has no URL; set `mirror` to a folder that has {file['mirror']}"
        if offline:
            return f"data absent: `offline` is set, and no `mirror` that has {name}"
    return None


def download_file(
    file: Mapping[str, Any],
    destination: Path,
    mirror: Path | None,
    progress: Progress | None = None,
    retries: int = 3,
    offline: bool = False,
    parts: Path | None = None,
) -> str:
    """Download or copy a file and verify it; after any failure `destination` does not exist.

    Arguments:
        file: One of the files from `resolve`: `url` (a list, tried in order, of addresses or of
            mappings with `url` and, where the address sends something else than the file, its own
            `sha256` or `md5` and the `member` of a zip or tar archive that is the file), `sha256`
            or `md5` where the official checksum is known, `mirror` (path inside the mirror); or
            `path`, a file of this machine that neither network nor mirror replaces.
        destination: Path of the file.
        mirror: Folder with raw files, which goes before the network; None: download.
        progress: Called at most every few seconds with (bytes, bytes in all or 0, line of text).
        retries: Number of further tries of a failed download, some seconds apart.
        offline: Whether the network is not to be used.
        parts: Folder in which an unfinished download waits for the next call, if the file has a
            checksum and the server says whether it is still the same; None: that of `destination`.

    Returns:
        The file's sha256.

    Raises:
        DownloadError: If no address gave the file.
        UserError: If the file is missing, or its checksum is not the expected one.
    """
    _check_mirror(mirror)
    with atomic_path(destination) as part:
        destination.unlink(missing_ok=True)
        if "path" in file:
            remedy = "put the file back, or correct the entry in config/datasets.yaml"
            _copy(file, Path(file["path"]), part, remedy, remedy)
        elif mirror is not None and (_exists(file, mirror) or not file.get("url")):
            missing = "add it to the mirror or unset `mirror`"
            wrong = "replace it with the official file, or delete it from the mirror to download it"
            _copy(file, mirror / file["mirror"], part, missing, wrong)
        elif offline:
            missing = "add it to a mirror or unset `offline`"
            raise UserError(f"{(mirror or Path()) / file['mirror']} not found; {missing}")
        else:
            parts = destination.parent if parts is None else parts
            _download(file, parts / f".{destination.name}", part, progress, retries)
        return sha256(part)


def _copy(file: Mapping[str, Any], source: Path, part: Path, missing: str, wrong: str) -> None:
    """Copy and verify; `missing` and `wrong` are the remedies for a missing and a wrong file."""
    if not source.is_file():
        raise UserError(f"{source} not found; {missing}")
    shutil.copyfile(source, part)
    if difference := _verify(file, part):
        raise UserError(f"{source} {difference}; {wrong}")


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


def _verify(file: Mapping[str, Any], path: Path) -> str | None:
    """Difference from the known checksum; None if there is none, or the source publishes none."""
    for kind in ("sha256", "md5"):
        if kind in file:
            with path.open("rb") as handle:
                got = hashlib.file_digest(handle, kind).hexdigest()
            if got == file[kind]:
                return None
            return f"({path.stat().st_size} bytes) has {kind}:{got}, expected {kind}:{file[kind]}"
    return None


def _download(
    file: Mapping[str, Any], place: Path, part: Path, progress: Progress | None, retries: int
) -> None:
    """Try the addresses in order, each in a folder of its own, whose name begins with `place`."""
    name, failures = place.name[1:], []
    sources = [{"url": a} if isinstance(a, str) else a for a in file.get("url", [])]
    folders = [_folder(place, source["url"]) for source in sources]
    for source, folder in zip(sources, folders, strict=True):
        try:
            with _unfinished(folder / name, verified=bool(_expected(file, source))):
                _from_address(file, source, folder / name, progress, retries).replace(part)
            for other in folders:
                shutil.rmtree(other, ignore_errors=True)
            return
        except RefusedError as error:
            failures.append(f"{source['url']}: {error}")
    reason = "; ".join(failures) or "no URL is known"
    remedies = ["check the network", "add another address to its `url`"]
    if "mirror" in file:
        remedies.append(f"set `mirror` to a folder that has {file['mirror']}")
    remedies.append("name a file of your own by `path`, or leave the dataset out by `skip`")
    raise DownloadError(f"cannot download {name} ({reason})", ", ".join(remedies))


def _folder(place: Path, url: str) -> Path:
    """Folder of an unfinished download from an address."""
    return place.with_name(f"{place.name}.{hashlib.sha256(url.encode()).hexdigest()[:12]}.part")


@contextlib.contextmanager
def _unfinished(path: Path, verified: bool) -> Iterator[None]:
    """Make the folder of a download; it is left there only with a part of a `verified` file.

    A full disk or a file system that fails leaves nothing.
    """
    path.parent.mkdir(exist_ok=True)
    try:
        yield
    except OSError:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise
    finally:
        if not (verified and holds_part(path)):
            shutil.rmtree(path.parent, ignore_errors=True)


def _expected(file: Mapping[str, Any], source: Mapping[str, Any]) -> Mapping[str, str]:
    """Checksums of what an address sends; those of the file are of what is kept."""
    named = source if "member" in source or {"sha256", "md5"} & source.keys() else file
    return {kind: named[kind] for kind in ("sha256", "md5") if kind in named}


def _from_address(
    file: Mapping[str, Any],
    source: Mapping[str, Any],
    path: Path,
    progress: Progress | None,
    retries: int,
) -> Path:
    """Download from one address and verify; the path of the file or of the archive's member."""
    expected = _expected(file, source)

    def verify(received: Path) -> None:
        if wrong := _verify(expected, received):
            raise RetriableError(f"the answer {wrong}")

    fetch(source["url"], path, verify, retries, progress)
    if "member" not in source:
        return path
    member = extract(path, source["member"], path.with_name("member"))
    if wrong := _verify(file, member):
        raise RefusedError(f"{source['member']} {wrong}")
    return member
