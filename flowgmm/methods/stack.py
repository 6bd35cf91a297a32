"""Training of a stack: estimators that differ in their seeds only, as one model."""

import hashlib
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils.validation import check_random_state

from flowgmm.flows.rng import Stream, make_stream
from flowgmm.methods.base import ON_CPU, ON_DEVICE, STREAMS, StackedEstimator
from flowgmm.methods.labels import encode_labels
from flowgmm.training.divergence import History
from flowgmm.training.hardware import find_device, find_precision
from flowgmm.training.loop import train
from flowgmm.utils.progress import Progress
from flowgmm.utils.seeds import derive

__all__ = ["digest", "fit_stack"]


def fit_stack(
    estimators: Sequence[StackedEstimator],
    X: np.ndarray,
    ys: np.ndarray,
    rows: np.ndarray | None = None,
    val: tuple[np.ndarray, np.ndarray] | None = None,
    checkpoint: Path | None = None,
    share: float = 1.0,
    progress: Progress | None = None,
) -> None:
    """Fit S estimators that differ only in `random_state` in one stacked training.

    Afterwards an estimator is fitted, and its `failure_` is None or says how it diverged.

    Arguments:
        estimators: S unfitted estimators of one class.
        X: Points, shape (N, D), or images, shape (N, C, H, W).
        ys: Classes, -1 where unlabelled, shape (S, n). Every seed has as many labelled points.
        rows: Rows of X that each seed uses, shape (S, n); None: all, in order.
        val: Rows of X for validation and their classes, both shape (S, n_val); only
            `keep="best_val"` uses them.
        checkpoint: File to resume from, if it exists, and to save to; it belongs to these
            estimators and data.
        share: Share of the steps to make, to evaluate an unfinished training.
        progress: Called a hundred times with (step, n_steps, text).

    Raises:
        ValueError: If the estimators differ or a parameter is out of range.
        UserError: If the checkpoint is damaged or belongs to another run.
    """
    first = estimators[0]
    n_init = _check_alike(estimators)
    ys = np.asarray(ys)
    classes, codes = _encode(ys)
    # Every estimator owns `n_init` neighbouring members of the stack, and keeps the best one.
    seeds = [named for est in estimators for named in draw_seeds(est.random_state, n_init)]
    codes = codes.repeat(n_init, axis=0)
    if rows is None:
        rows = np.broadcast_to(np.arange(len(X)), ys.shape)
    rows = np.asarray(rows).repeat(n_init, axis=0)
    device = find_device(first.device)
    used = first._choose_parts(X, int((codes[0] >= 0).sum()), len(classes))
    precision = find_precision(used["training_"].precision, device.type)
    used["training_"] = clone(used["training_"]).set_params(precision=precision)
    for estimator in estimators:
        for name, part in used.items():
            setattr(estimator, name, part)
    preprocess, dtype = first._learn_preprocess(X, checkpoint, progress), first._dtype
    x = first._points(X, preprocess, dtype, device)
    streams = _make_streams(seeds, device)
    batches = first._batches(x, codes, rows, streams["batches"])
    model = first._build(batches, len(classes), streams).to(device=device, dtype=dtype)
    training = first._training(batches.steps_per_epoch)
    first._initialise(model, batches, streams)
    history = train(
        model,
        [partial(losses, model, batches, streams) for losses in first._turns()],
        training,
        inputs=lambda step: first._inputs(batches, streams, step, training.n_steps),
        groups=first._groups(training, model),
        checkpoint=checkpoint,
        identity=checkpoint
        and [
            type(first).__name__,
            repr([first._shared_params(), first.used_params()]),
            seeds,
            [digest(array) for array in (X, rows, codes)],
        ],
        validate=first._validation(model, x, classes, val, n_init),
        stop=math.ceil(share * training.n_steps),
        progress=progress,
    )
    model.eval()
    first._after_training(model, batches)
    scores = first._init_scores(model, batches)
    for i, estimator in enumerate(estimators):
        members = range(i * n_init, (i + 1) * n_init)
        s = max(members, key=lambda m: -np.inf if m in history.failures else scores[m])
        estimator._adopt(model, s, classes, preprocess, math.prod(X.shape[1:]))
        estimator.seeds_ = seeds[s]
        estimator.history_ = _slice_history(history, s)
        estimator.failure_ = history.failures.get(s)
        estimator.inexact_resumes_ = history.inexact_resumes
        estimator.n_iter_ = history.steps[-1]


def draw_seeds(random_state: Any, n_init: int) -> list[dict[str, int]]:
    """One named seed per initialisation and purpose, from an int, a RandomState or None."""
    if not isinstance(random_state, (int, np.integer)):
        random_state = check_random_state(random_state).randint(2**31)
    return [
        {
            purpose: derive(f"estimator/{i}" if i else "estimator", int(random_state), purpose)
            for purpose in STREAMS
        }
        for i in range(n_init)
    ]


def _check_alike(estimators: Sequence[StackedEstimator]) -> int:
    """Verify that one training can hold the estimators; returns the initialisations of each."""
    first = estimators[0]
    for other in estimators[1:]:
        if type(other) is not type(first) or other._shared_params() != first._shared_params():
            raise ValueError("the estimators of a stack may differ in random_state only")
    n_init: int = getattr(first, "n_init", 1)
    if n_init < 1:
        raise ValueError(f"n_init must be 1 or more, got {n_init}")
    return n_init


def _encode(ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Classes, and their codes of each seed, shape (S, n), -1 where unlabelled."""
    encoded = [encode_labels(y) for y in ys]
    classes = encoded[0][0]
    codes = np.stack([code for _, code in encoded])
    if any(not np.array_equal(other, classes) for other, _ in encoded[1:]):
        raise ValueError("every seed of a stack needs labelled points of the same classes")
    counts = (codes >= 0).sum(axis=1)
    if len(set(counts.tolist())) > 1:
        raise ValueError(
            f"every seed of a stack needs the same number of labelled points, got {counts.tolist()}"
        )
    return classes, codes


def _make_streams(seeds: Sequence[dict[str, int]], device: torch.device) -> dict[str, Stream]:
    """Random streams of the members, by purpose."""
    return {
        purpose: make_stream([named[purpose] for named in seeds], where)
        for purposes, where in ((ON_CPU, torch.device("cpu")), (ON_DEVICE, device))
        for purpose in purposes
    }


def digest(array: np.ndarray) -> str:
    """Hash of an array's numbers, type and shape."""
    digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _slice_history(history: History, s: int) -> dict[str, list[float]]:
    """Steps and losses of one seed; numbers JSON cannot hold become None."""
    columns: dict[str, list] = {"step": list(history.steps)}
    for name, rows in history.losses.items():
        columns[name] = [row[s] if np.isfinite(row[s]) else None for row in rows]
    return columns
