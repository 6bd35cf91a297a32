"""Features of a dataset of texts or images: vectors of an encoder, in a features file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.datasets.features import make_features
from flowgmm.datasets.registry import load
from flowgmm.datasets.types import Arrays, Images, Texts
from flowgmm.embed import image, text
from flowgmm.embed.fetch import fetched_encoder
from flowgmm.embed.image import embed_images, native_resolution
from flowgmm.embed.text import PACKAGED, embed_texts, encoder_folder
from flowgmm.utils.errors import UserError
from flowgmm.utils.progress import Progress

__all__ = ["embed_data"]


def embed_data(
    spec: Mapping[str, Any],
    raw: Path,
    cache: Path,
    progress: Progress | None = None,
    fetched: Path | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Load, embed and validate a dataset of texts or images.

    Arguments:
        spec: From `flowgmm.datasets.registry.dataset_spec`, with `encoder` and, in place of
            defaults, `embedding`: the keyword arguments of `embed_texts` or `embed_images`.
        raw: Folder with the dataset's downloaded files.
        cache: Folder of vectors and unpacked encoders.
        progress: Called with (texts or images done, all, line of text).
        fetched: Manifest that `flowgmm.embed.fetch.download_encoder` wrote; None: the encoder is a
            package, or is on this machine.

    Returns:
        Arrays and header of a features file, as docs/architecture.md describes it.

    Raises:
        UserError: If the data do not meet the contract, or the encoder is not available.
    """
    data = load(spec, raw)
    if isinstance(data, Arrays):
        raise UserError(f"dataset {spec['dataset']!r} needs no encoder; use the rule prepare_data")
    if isinstance(data, Images) and (n_channels := data.train.shape[1]) != 3:
        raise UserError(
            f"dataset {spec['dataset']!r}: images have {n_channels} channel, an encoder takes 3 "
            "(red, green, blue); use `kind: image`"
        )
    encoder, embedding = spec["encoder"], spec.get("embedding", {})
    files = fetched_encoder(fetched) if fetched else []
    name, options = Path(encoder).name, {"progress": progress, **embedding}
    vectors, notes = {}, list(data.notes)
    reasons: list[str | None] = []
    if isinstance(data, Texts):
        source = str(files[0].parent) if files else encoder
        for part, texts in (("train", data.train), ("test", data.test)):
            X = embed_texts(texts, source, cache, **options)
            if encoder in PACKAGED:
                # Their own pipeline ends with vectors of length 1; the paper's has no such step.
                X = X / np.linalg.norm(X, axis=1, keepdims=True)
            vectors[part] = X
        reasons.append(text.deviation(encoder, encoder_folder(source, cache)))
    else:
        source = str(files[0]) if files else encoder
        for part, images in (("train", data.train), ("test", data.test)):
            vectors[part] = embed_images(images, source, cache, **options)
        side = embedding.get("resolution") or native_resolution(encoder)
        notes.append(f"features of {name} from images enlarged to {side} x {side} pixels")
        reasons.append(image.deviation(encoder))
    arrays = Arrays(
        vectors["train"],
        data.y_train,
        vectors["test"],
        data.y_test,
        data.classes,
        notes,
        same_scale=True,
    )
    return make_features(spec, arrays, raw, not_comparable=[r for r in reasons if r])
