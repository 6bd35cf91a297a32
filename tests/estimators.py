"""Estimators from flat parameters: tests change few of them, of any part."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import numpy as np

from flowgmm.flows.reference.realnvp import PLAIN_OBJECTIVE
from flowgmm.methods.parts import LatentMixture, MultiscaleRealNVP, Objective, RealNVP, Training

ORDER = {
    "flow": (RealNVP, MultiscaleRealNVP),
    "mixture": (LatentMixture,),
    "objective": (Objective,),
    "training": (Training,),
}


OF_IMAGES = set(signature(MultiscaleRealNVP).parameters) - set(signature(RealNVP).parameters)


# Settings under which the tests were written: every term of the objective is on.
WRITTEN_FOR = {
    "dropout": 0.5,
    "input_noise": 0.3,
    "unlabelled_weight": 100.0,
    "consistency_weight": 1000.0,
    "balance_weight": 1000.0,
    "n_steps": 300,
    "labelled_batch": None,
    "lr": 1e-3,
}


def nest(params: dict[str, Any]) -> dict[str, Any]:
    """Parts from flat parameters over `WRITTEN_FOR`, whatever the data."""
    image = not OF_IMAGES.isdisjoint(params)
    of_vectors = {"dropout", "input_noise"} if image else set()
    left = {key: value for key, value in WRITTEN_FOR.items() if key not in of_vectors} | params
    parts = {}
    for name, kinds in ORDER.items():
        kind = kinds[-1] if image else kinds[0]
        own = {key: left.pop(key) for key in list(left) if key in signature(kind).parameters}
        parts[name] = kind(**own)
    return {**left, **parts}


def flat(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a recipe by their own names, those of the parts among them."""
    found = {}
    for name, value in params.items():
        found |= value if name in ORDER and isinstance(value, Mapping) else {name: value}
    return found


def flow_gmm(**params: Any) -> Any:
    """`FlowGMMClassifier` for vectors, or images if a parameter is of their flow."""
    from flowgmm import FlowGMMClassifier

    return FlowGMMClassifier(**{"preprocess": "standardise", "n_folds": 0, **nest(params)})


def mlp(**params: Any) -> Any:
    """`DropoutMLPClassifier`."""
    from flowgmm import DropoutMLPClassifier

    return DropoutMLPClassifier(**_with_training(params, lr=3e-4))


def pi_model(**params: Any) -> Any:
    """`PiModelClassifier`."""
    from flowgmm import PiModelClassifier

    return PiModelClassifier(**_with_training(params, lr=1e-3))


def diglm(**params: Any) -> Any:
    """`DiglmClassifier` for vectors, or images if a parameter is of their flow."""
    from flowgmm.methods.quoted.diglm import DiglmClassifier

    names = signature(DiglmClassifier).parameters.keys()
    own = {key: value for key, value in params.items() if key in names}
    parts = nest({key: value for key, value in params.items() if key not in own})
    return DiglmClassifier(
        **{"preprocess": "standardise", "flow": parts["flow"], "training": parts["training"], **own}
    )


def badgan(**params: Any) -> Any:
    """`BadGanClassifier`."""
    from flowgmm.methods.quoted.badgan import BadGanClassifier

    return BadGanClassifier(**_with_training(params, lr=1e-3))


def scnf(**params: Any) -> Any:
    """`ScnfClassifier` of few small layers."""
    from flowgmm.methods.quoted.scnf import ScnfClassifier

    training = {
        "labelled_batch": 12,
        "unlabelled_batch": 24,
        "sampling": "replacement",
        "optimizer": "adamax",
    }
    nested = _with_training({**training, **params}, lr=1e-2)
    small = {"n_layers": 2, "hidden_size": 16, "n_class_layers": 1, "class_hidden_size": 8}
    return ScnfClassifier(**{**small, "n_blocks": 1, **nested})


def adgm(**params: Any) -> Any:
    """`AdgmClassifier`."""
    from flowgmm.methods.quoted.adgm import AdgmClassifier

    return AdgmClassifier(**_with_training(params, lr=1e-3))


def _with_training(params: dict[str, Any], lr: float) -> dict[str, Any]:
    defaults = {"labelled_batch": None, "n_steps": 500, "lr": lr, "clip_norm": None}
    own = {key: value for key, value in params.items() if key in signature(Training).parameters}
    left = {key: value for key, value in params.items() if key not in own}
    return {**left, "training": Training(**{**defaults, **own})}


def in_use(estimator: Any, *shape: int) -> Any:
    """The estimator with the parts that it uses for points of a shape, as `fit` would set them."""
    for name, part in estimator._choose_parts(np.zeros((1, *shape), np.uint8), 1, 2).items():
        setattr(estimator, name, part)
    return estimator


SMALL = {"n_couplings": 2, "hidden_size": 16, "n_steps": 40, "lr": 1e-2}
LIKELIHOOD_ONLY = PLAIN_OBJECTIVE | {"dropout": 0.0}


def small_flow(**params: Any) -> Any:
    """`flow_gmm` with a small network and the likelihood alone, without dropout."""
    return flow_gmm(**{**LIKELIHOOD_ONLY, **SMALL, **params})
