"""FlowGMM with settings for a kind of data, as estimators.

`FlowGMMClassifier()` chooses among the first five by the data. Each function takes further
parameters of `FlowGMMClassifier`, which replace a part as a whole:

    >>> from flowgmm import presets
    >>> model = presets.tables(random_state=0).set_params(training__n_steps=800)
    >>> model.training.lr
    0.002
"""

from typing import Any

from flowgmm.methods import preset_parts
from flowgmm.methods.flow_gmm import FlowGMMClassifier
from flowgmm.methods.parts import LatentMixture, MultiscaleRealNVP, Objective, RealNVP, Training

__all__ = [
    "features",
    "images",
    "paper_2d",
    "paper_images",
    "paper_tables",
    "paper_text",
    "tables",
    "text",
    "wide_tables",
]


def _make(preset: preset_parts.Preset, params: dict[str, Any]) -> FlowGMMClassifier:
    return FlowGMMClassifier(**{**vars(preset), **params})


def tables(**params: Any) -> FlowGMMClassifier:
    """Tables of up to 128 columns, numbers and encoded categories."""
    return _make(preset_parts.tables(), params)


def wide_tables(**params: Any) -> FlowGMMClassifier:
    """Tables of more than 128 columns, through their principal components."""
    return _make(preset_parts.wide_tables(), params)


def text(**params: Any) -> FlowGMMClassifier:
    """Vectors of a text encoder."""
    return _make(preset_parts.text(), params)


def features(**params: Any) -> FlowGMMClassifier:
    """Features of an image encoder."""
    return _make(preset_parts.features(), params)


def images(**params: Any) -> FlowGMMClassifier:
    """Images, shape (N, C, H, W), in minutes on a CPU."""
    return _make(preset_parts.images(), params)


# The likelihood alone, as the authors' code for vectors has it.
_LIKELIHOOD: dict[str, Any] = {
    "label_weight": 0.0,
    "consistency_weight": 0.0,
    "consistency_target": "joint",
    "balance_weight": 0.0,
}


def paper_2d(**params: Any) -> FlowGMMClassifier:
    """Two moons as in the authors' code; recipe `official`."""
    preset = preset_parts.Preset(
        RealNVP(5, 512, dropout=0.0, zero_init=False, input_noise=0.0),
        LatentMixture("diag", 3.5, learn_means=False),
        Objective(
            **_LIKELIHOOD, unlabelled_weight=1.0, pooled_loss=True, labelled_in_unlabelled=False
        ),
        Training(
            n_steps=2001,
            labelled_batch=None,
            unlabelled_batch=10,
            sampling="replacement",
            optimizer="adam",
            lr=1e-4,
            weight_decay=1e-2,
            schedule="steps",
            clip_norm=None,
        ),
    )
    return _make(preset, params)


def paper_text(**params: Any) -> FlowGMMClassifier:
    """AG-News as in the authors' code; recipe `official`."""
    preset = preset_parts.Preset(
        RealNVP(7, 1024, dropout=0.5, zero_init=False, input_noise=0.0),
        LatentMixture("random_multi", 0.56, std=1.3133, learn_means=False),
        Objective(**_LIKELIHOOD, unlabelled_weight=0.6),
        Training(
            n_steps=None,
            n_epochs=100,
            labelled_batch=None,
            unlabelled_batch=5000,
            lr=3e-4,
            schedule="cosine_lagged",
        ),
    )
    return _make(preset, params)


def paper_tables(**params: Any) -> FlowGMMClassifier:
    """MiniBooNE as in the authors' code; recipe `official`."""
    preset = preset_parts.Preset(
        RealNVP(10, 256, dropout=0.5, zero_init=False, input_noise=0.0),
        LatentMixture("random_pm", 3.75, std=1.3133, learn_means=False),
        Objective(**_LIKELIHOOD, unlabelled_weight=3.0),
        Training(
            n_steps=None,
            n_epochs=300,
            labelled_batch=None,
            unlabelled_batch=5000,
            lr=3e-4,
            schedule="cosine_lagged",
        ),
    )
    return _make(preset, params)


def paper_images(**params: Any) -> FlowGMMClassifier:
    """FlowGMM-cons on MNIST, 1000 labels, as in the authors' code; recipe `official`."""
    preset = preset_parts.Preset(
        MultiscaleRealNVP(zero_init=False),
        LatentMixture("random", learn_means=False),
        Objective(
            label_weight=3.0,
            labelled_nll="mixture",
            unlabelled_weight=1.0,
            pooled_loss=True,
            consistency_weight=1.0,
            consistency_target="joint",
            ramp_up=0.0333333,
            ramp_each="pass",
            balance_weight=0.0,
            labelled_in_unlabelled=False,
        ),
        Training(
            n_steps=93000,
            labelled_batch=32,
            unlabelled_batch=32,
            sampling="shuffle_full",
            optimizer="adam",
            lr=1e-4,
            weight_decay=5e-5,
            schedule="constant",
            precision="bf16",
        ),
    )
    return _make(preset, params)
