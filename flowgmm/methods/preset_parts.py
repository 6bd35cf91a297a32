"""Parts that were chosen for a kind of data, and the choice of the kind.

Parts that are None take these values; `flowgmm.presets` has estimators with them. docs/recipes.md
has the experiments behind them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flowgmm.methods.parts import LatentMixture, MultiscaleRealNVP, Objective, RealNVP, Training

__all__ = ["PRESETS", "Preset", "choose_preset"]

# Vectors with more features than this are embeddings, or a table too wide for a flow as it is.
MAX_MODELLED = 128
# Rows that decide the kind of the data.
N_INSPECTED = 1000
# Pooled activations reach this many times as far above 0 as below it (SiLU's least is -0.28).
ONE_SIDED = 3.0


@dataclass(frozen=True)
class Preset:
    """Parts and preprocessing for a kind of data."""

    flow: RealNVP | MultiscaleRealNVP
    mixture: LatentMixture
    objective: Objective
    training: Training
    preprocess: str = "none"
    pca_components: int | None = None


def tables() -> Preset:
    """Columns of numbers and encoded categories, up to 128 of them: the parts' own defaults."""
    return Preset(RealNVP(), LatentMixture(), Objective(), Training(), preprocess="mixed")


def wide_tables() -> Preset:
    """More columns than 128, through their principal components."""
    return Preset(
        RealNVP(n_couplings=2, dropout=0.5, input_noise=0.5),
        LatentMixture(),
        Objective(unlabelled_weight=100.0, consistency_weight=100.0),
        Training(n_steps=400, lr=1e-3),
        preprocess="pca",
        pca_components=32,
    )


def text() -> Preset:
    """Vectors of a text encoder; the recipe `recommended` for text."""
    return _encoded(pca_components=64, balance_weight=10000.0, labelled_batch=None)


def features() -> Preset:
    """Features of an image encoder; the recipe `recommended` for image features."""
    return _encoded(pca_components=128, balance_weight=3000.0, labelled_batch=1000)


def _encoded(pca_components: int, balance_weight: float, labelled_batch: int | None) -> Preset:
    """Vectors of an encoder, through their leading principal components."""
    return Preset(
        RealNVP(n_couplings=2, hidden_size=128, dropout=0.5, input_noise=0.5),
        LatentMixture(),
        Objective(
            unlabelled_weight=100.0, consistency_weight=1000.0, balance_weight=balance_weight
        ),
        Training(
            n_steps=400,
            labelled_batch=labelled_batch,
            unlabelled_batch=1000,
            lr=1e-3,
            weight_decay=1e-4,
            precision="auto",
        ),
        preprocess="pca",
        pca_components=pca_components,
    )


def images() -> Preset:
    """Images: FlowGMM-cons of the recipe `recommended` with fewer steps."""
    return Preset(
        MultiscaleRealNVP("auto", n_filters=48, n_blocks=1, crop_padding=3, distortion=0.3),
        LatentMixture(means="axes", mean_scale=6.0, learn_means=False),
        Objective(
            labelled_nll="mixture",
            pooled_loss=True,
            unlabelled_weight=1.0,
            label_weight=8000.0,
            labelled_in_unlabelled=False,
            consistency_weight=8000.0,
            consistency_on="unlabelled",
            consistency_target="posterior",
            guess_threshold=0.9,
            teacher_decay=0.998,
            ramp_up=0.1,
            balance_weight=0.0,
        ),
        Training(
            n_steps=2000,
            labelled_batch=32,
            unlabelled_batch=64,
            sampling="shuffle_full",
            lr=3e-3,
            beta2=0.99,
            weight_decay=0.0,
            schedule="warm_late",
            clip_norm=40000.0,
        ),
    )


PRESETS: dict[str, Callable[[], Preset]] = {
    preset.__name__: preset for preset in (tables, wide_tables, text, features, images)
}


def choose_preset(X: np.ndarray) -> str:
    """Name of the preset for data.

    Images have four axes. Vectors of up to 128 columns are a table; wider ones are a table too if a
    column of it repeats its values (counts, categories, measured with few digits). Else they come
    from an encoder: of images if they reach far above 0 and not far below it, as pooled activations
    do, of text if not.

    Arguments:
        X: Points, shape (N, D), or images, shape (N, C, H, W).

    Returns:
        A name in `PRESETS`.
    """
    if X.ndim == 4:
        return "images"
    if X.shape[1] <= MAX_MODELLED:
        return "tables"
    rows = np.asarray(X[:: max(1, len(X) // N_INSPECTED)])
    distinct = np.array([len(np.unique(column)) for column in rows.T])
    if (distinct < len(rows) / 2).any():
        return "wide_tables"
    low, high = np.quantile(rows, (0.01, 0.99))
    return "features" if high > ONE_SIDED * max(0.0, -low) else "text"
