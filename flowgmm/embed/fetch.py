"""Download of an encoder's files as raw files of the project; later jobs need no network."""

import os
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from flowgmm.datasets.download import DownloadError, download_file
from flowgmm.embed.cache import make_folder
from flowgmm.embed.image import B4_SHA256, PAPER_IMAGE_ENCODER
from flowgmm.embed.text import MODEL_FILES
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, sha256, write_json
from flowgmm.utils.progress import Progress

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

__all__ = ["download_encoder", "fetched_encoder"]


def download_encoder(encoder: str, manifest: Path, progress: Progress | None = None) -> None:
    """Download the files of an encoder that is neither packaged nor on this machine.

    Arguments:
        encoder: ``efficientnet_b4`` (torchvision's weights) or a model's name on the hub.
        manifest: JSON file that names the files and their sha256, written once they are whole; they
            lie in the folder of the same name without ``.json``.
        progress: Called at most every few seconds with (bytes, bytes in all, line of text).

    Raises:
        DownloadError: If a download fails or its checksum does not match.
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
    """List the files that `download_encoder` downloaded, after verifying them.

    Raises:
        UserError: If a file is missing or has another checksum.
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
    except DownloadError as error:
        raise DownloadError(
            f"encoder {PAPER_IMAGE_ENCODER!r}: {error}; or set `image_encoder` to a file of the "
            "weights, or to efficientnet_lite0, which is a package"
        ) from error
    if not got.startswith(B4_SHA256):
        raise UserError(f"{url}: expected sha256 {B4_SHA256}..., got {got}; try again")


def _from_hub(encoder: str, folder: Path, progress: Progress | None) -> None:
    """Download the files of a public model and verify each against the hub's hash of it.

    `download_file` fetches them, not `hf_hub_download`, which verifies only their size, reports to
    a subclass of tqdm alone, leaves a folder `.cache` among the files, and asks other hosts (Xet).
    """
    # Read when the client is imported; no request but for the listing and the files.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils.sha import git_hash

    remedy = (
        "correct `text_encoder` in config/config.yaml, or set it to a folder with such files, "
        "or to minilm, a package"
    )
    try:
        revision, listed = _listing(encoder)
    except DownloadError as error:
        raise DownloadError(f"{error}; {remedy}") from error
    wanted = [
        file
        for file in listed
        if "/" not in file.rfilename and any(map(PurePosixPath(file.rfilename).match, MODEL_FILES))
    ]
    if not any(file.rfilename.endswith(".safetensors") for file in wanted):
        raise DownloadError(f"encoder {encoder!r}: *.safetensors not found on the hub; {remedy}")
    for file in wanted:
        path, url = folder / file.rfilename, hf_hub_url(encoder, file.rfilename, revision=revision)
        checksum = {"sha256": file.lfs.sha256} if file.lfs else {}
        try:
            download_file({"url": [url], **checksum}, path, None, progress)
        except DownloadError as error:
            raise DownloadError(f"encoder {encoder!r}: {error}; or {remedy}") from error
        # The hub has git's hash of a small file.
        if not file.lfs and git_hash(path.read_bytes()) != file.blob_id:
            raise DownloadError(f"{url} does not match the hash that the hub has of it; try again")


def _listing(encoder: str) -> tuple[str, "list[RepoSibling]"]:
    """Revision and files of a public model on the hub, with their hashes."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import httpx

    try:
        # Without the user's token: models are public.
        model = HfApi(token=False).model_info(encoder, files_metadata=True, timeout=60)
        if model.sha is None or model.siblings is None:
            raise ValueError("the hub's answer has no revision or no files")
    # OSError: HF_HUB_OFFLINE is set, too; the others: an invalid name or answer.
    except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DownloadError(
            f"encoder {encoder!r} not available from the model hub ({reason})"
        ) from error
    return model.sha, model.siblings
