"""Download of an encoder's files as raw files of the project, so that no job needs the network."""

import hashlib
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from flowgmm.datasets.download import download_file
from flowgmm.embed.cache import make_folder
from flowgmm.embed.image import B4_SHA256, PAPER_IMAGE_ENCODER
from flowgmm.embed.text import MODEL_FILES
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, sha256, write_json
from flowgmm.utils.progress import Progress

__all__ = ["download_encoder", "fetched_encoder"]


def download_encoder(encoder: str, manifest: Path, progress: Progress | None = None) -> None:
    """Download the files of an encoder that is neither packaged nor on this machine.

    Arguments:
        encoder: ``efficientnet_b4`` (torchvision's weights) or a model's name on the hub.
        manifest: JSON file that names the files and their sha256, written once they are whole; they
            lie in the folder of the same name without ``.json``.
        progress: Called at most every few seconds with (bytes, bytes in all, line of text).

    Raises:
        UserError: If a download fails or its checksum does not match.
    """
    make_folder(manifest.parent)
    manifest.unlink(missing_ok=True)
    folder = manifest.with_suffix("")
    fresh = manifest.with_name(f".{folder.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)  # of a call that was killed
    fresh.mkdir()
    try:
        if encoder == PAPER_IMAGE_ENCODER:
            _official_b4(fresh, progress)
        else:
            _from_hub(encoder, fresh, progress)
        files = {path.name: sha256(path) for path in sorted(fresh.iterdir())}
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    write_json(manifest, {"encoder": encoder, "files": files})


def fetched_encoder(manifest: Path) -> list[Path]:
    """The files that `download_encoder` brought, verified.

    Raises:
        UserError: If a file is missing or is not the downloaded one.
    """
    folder, files = manifest.with_suffix(""), read_json(manifest)["files"]
    for name, expected in files.items():
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            what = "is damaged" if path.is_file() else "not found"
            raise UserError(f"{path} {what}; delete {manifest} and run again to fetch it anew")
    return [folder / name for name in files]


def _official_b4(folder: Path, progress: Progress | None) -> None:
    """Download torchvision's file and verify the start of its hash, as torchvision does."""
    from torchvision.models import EfficientNet_B4_Weights

    url = EfficientNet_B4_Weights.IMAGENET1K_V1.url
    try:
        got = download_file({"url": [url]}, folder / url.rpartition("/")[2], None, progress)
    except UserError as error:
        raise UserError(
            f"encoder {PAPER_IMAGE_ENCODER!r}: {error}; or set `image_encoder` to a file of the "
            "weights, or to efficientnet_lite0, which is a package"
        ) from error
    if not got.startswith(B4_SHA256):
        raise UserError(f"{url}: expected sha256 {B4_SHA256}..., got {got}; try again")


def _from_hub(encoder: str, folder: Path, progress: Progress | None) -> None:
    """Download the files of a public model and verify each against the hub's hash of it.

    The client library `huggingface_hub` verifies only their size.
    """
    import requests
    from huggingface_hub.constants import ENDPOINT

    remedy = (
        "correct `text_encoder` in config/config.yaml, or set it to a folder with such files, "
        "or to minilm, a package"
    )
    try:
        answer = requests.get(
            f"{ENDPOINT}/api/models/{encoder}", params={"blobs": "true"}, timeout=60
        )
        answer.raise_for_status()
        model: dict[str, Any] = answer.json()
        listed = {file["rfilename"]: file for file in model["siblings"]}
        revision = model["sha"]
    except (requests.exceptions.RequestException, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"encoder {encoder!r} cannot be had from the model hub ({reason}); {remedy}"
        ) from error
    wanted = [
        name
        for name in listed
        if "/" not in name and any(map(PurePosixPath(name).match, MODEL_FILES))
    ]
    if not any(name.endswith(".safetensors") for name in wanted):
        raise UserError(f"encoder {encoder!r} has no weights in safetensors on the hub; {remedy}")
    for name in wanted:
        file: dict[str, Any] = {"url": [f"{ENDPOINT}/{encoder}/resolve/{revision}/{name}"]}
        large = listed[name].get("lfs")
        try:
            download_file(
                file | ({"sha256": large["sha256"]} if large else {}), folder / name, None, progress
            )
        except UserError as error:
            raise UserError(f"encoder {encoder!r}: {error}; or {remedy}") from error
        content = b"" if large else (folder / name).read_bytes()
        # The hub has git's hash of a small file.
        got = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        if not large and got != listed[name]["blobId"]:
            raise UserError(
                f"{file['url'][0]} does not match the hash that the hub has of it; try again"
            )
