"""Download of an encoder's files as raw files of the project; later jobs need no network."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from flowgmm.datasets.download import DownloadError, download_file
from flowgmm.embed.cache import make_folder
from flowgmm.embed.image import B4_SHA256, PAPER_IMAGE_ENCODER
from flowgmm.embed.text import MODEL_FILES, PAPER_SHA256, hub_model
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
            _official_b4(fresh, progress, manifest.parent)
        else:
            _from_hub(encoder, fresh, progress, manifest.parent)
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


def _official_b4(folder: Path, progress: Progress | None, parts: Path) -> None:
    """Download torchvision's file, known by its sha256; an unfinished one waits in `parts`."""
    url = _b4_url()
    file = {"url": [url], "sha256": B4_SHA256}
    try:
        download_file(file, folder / url.rpartition("/")[2], None, progress, parts=parts)
    except DownloadError as error:
        raise DownloadError(
            f"encoder {PAPER_IMAGE_ENCODER!r}: {error.reason}",
            "check the network, set `image_encoder` to a file of the weights or to "
            "efficientnet_lite0, a package, or leave the datasets out by `skip`",
        ) from error


def _b4_url() -> str:
    from torchvision.models import EfficientNet_B4_Weights

    return str(EfficientNet_B4_Weights.IMAGENET1K_V1.url)


def _from_hub(encoder: str, folder: Path, progress: Progress | None, parts: Path) -> None:
    """Download the files of a public model and verify each against the hub's hash of it.

    Unfinished downloads wait in `parts`.

    `download_file` fetches them, not `hf_hub_download`, which verifies only their size, reports to
    a subclass of tqdm alone, leaves a folder `.cache` among the files, and asks other hosts (Xet).
    """
    name, revision = hub_model(encoder)
    try:
        model = _listing(name, revision)
        for file in model["siblings"]:
            path = folder / file["rfilename"]
            url = f"{_endpoint()}/{model['id']}/resolve/{model['sha']}/{quote(path.name)}"
            known = {"sha256": file["lfs"]["sha256"]} if file.get("lfs") else {}
            if revision is not None and path.suffix == ".safetensors":
                known = {"sha256": PAPER_SHA256}
            download_file({"url": [url], **known}, path, None, progress, parts=parts)
            # The hub has git's hash of a small file.
            if not known and _git_hash(path) != file["blobId"]:
                raise DownloadError(f"{url} does not match the hash that the hub has of it")
    except DownloadError as error:
        raise DownloadError(
            f"encoder {encoder!r}: {error.reason}",
            "check the network, correct `text_encoder` in config/config.yaml, set it to a folder "
            "with such files or to minilm, a package, or leave the datasets out by `skip`",
        ) from error


def _endpoint() -> str:
    """Address of the hub, without the user's token: models are public."""
    # Read when the client is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise DownloadError("the variable HF_HUB_OFFLINE is set; unset it")
    return str(constants.ENDPOINT)


def _listing(name: str, revision: str | None) -> dict[str, Any]:
    """Name, revision (``sha``) and wanted files (``siblings``) of a model, with their hashes."""
    for _ in range(2):
        at = "" if revision is None else f"/revision/{revision}"
        url = f"{_endpoint()}/api/models/{quote(name)}{at}?blobs=true"
        try:
            model = _answer(url)
            wanted = [file for file in model["siblings"] if _is_wanted(file["rfilename"])]
            name, sha = str(model["id"]), str(model["sha"])
        except DownloadError as error:
            reason = f"not available from the model hub ({error.reason})"
            raise DownloadError(reason) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DownloadError(f"{url}: the answer is no list of a model's files") from error
        if not any(file["rfilename"].endswith(".safetensors") for file in wanted):
            raise DownloadError("*.safetensors not found on the hub")
        if all(file.get("lfs") or "blobId" in file for file in wanted):
            return {"id": name, "sha": sha, "siblings": wanted}
        # The redirect of an old name may drop the query, which asks for hashes: the new name.
    raise DownloadError(f"{url}: the answer has no hashes of the files")


def _answer(url: str) -> dict[str, Any]:
    """A JSON object from an address; busy servers are asked again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "listing.json"
        download_file({"url": [url]}, path, None)
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _is_wanted(name: str) -> bool:
    return "/" not in name and any(map(PurePosixPath(name).match, MODEL_FILES))


def _git_hash(path: Path) -> str:
    content = path.read_bytes()
    blob = b"blob %d\0" % len(content) + content
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest()
