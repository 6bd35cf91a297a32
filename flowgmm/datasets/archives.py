"""One file out of a downloaded archive."""

import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from flowgmm.datasets.http import RefusedError

__all__ = ["extract"]


def extract(archive: Path, member: str, target: Path) -> Path:
    """Write a member of a zip or tar archive, packed in any way, to a path; no other is unpacked.

    Arguments:
        archive: The archive.
        member: Name of the member, without the folders that it lies in if there is but one such.
        target: Path of the new file.

    Returns:
        `target`.

    Raises:
        RefusedError: If the file is no archive or a damaged one, or does not have that one member.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                names = [info.filename for info in packed.infolist() if not info.is_dir()]
                with packed.open(_find(names, member)) as source, target.open("wb") as part:
                    shutil.copyfileobj(source, part)
        else:
            with tarfile.open(archive) as packed_tar:
                names = [info.name for info in packed_tar if info.isfile()]
                content = packed_tar.extractfile(_find(names, member))
                assert content is not None  # of a regular file it never is
                with content, target.open("wb") as part:
                    shutil.copyfileobj(content, part)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        gzip.BadGzipFile,
        zlib.error,
        EOFError,
        RuntimeError,  # a password is needed
        NotImplementedError,  # a compression that zipfile does not know
    ) as error:
        raise RefusedError(f"the answer is no archive that can be read ({error})") from error
    return target


def _find(names: Iterable[str], member: str) -> str:
    """Full name of the member."""
    names = list(names)
    if member in names:
        return member
    found = [name for name in names if name.endswith(f"/{member}")]
    if len(found) != 1:
        shown = ", ".join(sorted(names)[:6]) or "nothing"
        raise RefusedError(f"the archive has {len(found)} files {member!r}; it has {shown}")
    return found[0]
