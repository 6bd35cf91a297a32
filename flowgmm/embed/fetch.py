"""An encoder's files as raw files of the project: brought once, then no job needs the network."""

import os
import shutil
import tempfile
from pathlib import Path

from flowgmm.datasets.fetch import fetch
from flowgmm.embed.cache import Progress, make_folder
from flowgmm.embed.image import B4_SHA256, PAPER_IMAGE_ENCODER
from flowgmm.embed.text import hub_folder
from flowgmm.errors import UserError
from flowgmm.files import read_json, sha256, write_json

__all__ = ["fetch_encoder", "fetched_encoder"]


def fetch_encoder(encoder: str, manifest: Path, progress: Progress | None = None) -> None:
    """Bring the files of an encoder that is neither packaged nor on this machine.

    Arguments:
        encoder: ``efficientnet_b4`` (torchvision's weights) or a model's name on the hub.
        manifest: JSON file that names the files and their sha256, written once they are whole; they
            lie in the folder of the same name without ``.json``.
        progress: Called at most every few seconds with (bytes, bytes in all, line of text).

    Raises:
        UserError: If the files cannot be had.
    """
    make_folder(manifest.parent)
    manifest.unlink(missing_ok=True)
    folder = manifest.with_suffix("")
    with tempfile.TemporaryDirectory(dir=manifest.parent, prefix=f".{folder.name}.") as scratch:
        fresh = Path(scratch) / folder.name
        fresh.mkdir()
        if encoder == PAPER_IMAGE_ENCODER:
            _official_b4(fresh, progress)
        else:
            hub_folder(encoder, fresh)
            if not list(fresh.glob("*.safetensors")):
                raise UserError(
                    f"encoder {encoder!r} has no weights in safetensors on the hub; set "
                    "`text_encoder` in config/config.yaml to one that has"
                )
        shutil.rmtree(fresh / ".cache", ignore_errors=True)  # the hub client's notes
        files = {path.name: sha256(path) for path in sorted(fresh.iterdir())}
        for name in files:
            with open(fresh / name, "rb") as handle:
                os.fsync(handle.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(fresh, folder)
    write_json(manifest, {"encoder": encoder, "files": files})


def fetched_encoder(manifest: Path) -> list[Path]:
    """The files that `fetch_encoder` brought, verified.

    Raises:
        UserError: If a file is absent or is not the one that was fetched.
    """
    folder, files = manifest.with_suffix(""), read_json(manifest)["files"]
    for name, expected in files.items():
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            what = "damaged" if path.is_file() else "not there"
            raise UserError(f"{path} is {what}; delete {manifest} and run again to fetch it anew")
    return [folder / name for name in files]


def _official_b4(folder: Path, progress: Progress | None) -> None:
    """Torchvision's file, checked as torchvision does: by the start of the hash in its name."""
    from torchvision.models import EfficientNet_B4_Weights

    url = EfficientNet_B4_Weights.IMAGENET1K_V1.url
    try:
        got = fetch({"url": [url]}, folder / url.rpartition("/")[2], None, progress)
    except UserError as error:
        raise UserError(
            f"encoder {PAPER_IMAGE_ENCODER!r}: {error}; or set `image_encoder` to a file of the "
            "weights, or to efficientnet_lite0, which is a package"
        ) from error
    if not got.startswith(B4_SHA256):
        raise UserError(f"{url} has sha256 {got}, which should start with {B4_SHA256}; try again")
