"""Cross-validation of all methods on the labelled rows, on the same folds."""

import contextlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from flowgmm.apps.fit.methods import COMBINED, FLOWGMM, FOREST, TABPFN, Method
from flowgmm.evaluation.calibration import tempered
from flowgmm.methods.averaging import WEIGHT, averaged
from flowgmm.methods.calibration import Calibration, fit_calibration, fit_temperature
from flowgmm.methods.cross_fit import FLOOR, cross_fit, make_folds, seen_when_held_out
from flowgmm.utils.errors import DivergedError, UserError
from flowgmm.utils.progress import Progress
from flowgmm.utils.seeds import derive
from flowgmm.utils.threads import one_thread

__all__ = ["HeldOut", "cross_validate", "fit_baselines"]

N_FOLDS = 10


@dataclass(frozen=True)
class HeldOut:
    """Predictions for labelled rows by models that were not trained on them.

    Attributes:
        rows: Indices of the labelled rows, shape (n,).
        fold: Fold of each, shape (n,).
        log_proba: Log probabilities in nats by method, shape (n, K). Those of FlowGMM and of its
            combination with the forest are calibrated, each fold by the others.
        calibration: FlowGMM's calibration from all folds.
        mean_temperature: Temperature of the combination from all folds.
        notes: Notes on methods that failed.
    """

    rows: np.ndarray
    fold: np.ndarray
    log_proba: dict[str, np.ndarray]
    calibration: Calibration
    mean_temperature: float
    notes: list[str]


def cross_validate(
    methods: Mapping[str, Method],
    X: np.ndarray,
    codes: np.ndarray,
    seed: int,
    progress: Progress | None = None,
) -> HeldOut:
    """Cross-validate all methods on the same folds of the labelled rows.

    Semi-supervised methods see the held-out rows as unlabelled ones.

    Arguments:
        methods: By name; FlowGMM and the forest among them.
        X: Features, shape (N, D).
        codes: Classes in 0..K-1, -1 where unlabelled, shape (N,); one has 2 rows at least.
        seed: Of the folds and the training.
        progress: Called with units done, all units, and the name of the work.

    Raises:
        UserError: If FlowGMM diverged.
    """
    fold = make_folds(codes, N_FOLDS, derive("own data/folds", seed, "split"))
    rows = np.flatnonzero(fold >= 0)
    states = [
        derive(f"own data/{k}", seed, "initialisation") for k in range(fold.max(initial=-1) + 1)
    ]
    named = progress and (lambda done, n, text: progress(done, n, f"held-out check, {text}"))
    try:
        with one_thread():
            flow = cross_fit(methods[FLOWGMM].estimator, X, codes, fold, states, progress=named)
    except DivergedError as error:
        raise UserError(f"{error}: see --drop") from error
    log_proba, notes = _fit_others(
        methods,
        progress,
        lambda method, kept: cross_fit(
            method.estimator,
            X[kept],
            codes[kept],
            fold[kept],
            semi_supervised=method.semi_supervised,
        ),
        codes,
    )
    y, seen = codes[rows], seen_when_held_out(codes, fold)
    forest = log_proba[FOREST]
    ratio = _features_per_label(X, codes, methods[FLOWGMM].estimator.pca_components)
    mean = averaged(flow, forest, WEIGHT)
    calibrated, calibrated_mean = np.empty_like(flow), np.empty_like(flow)
    # A single held-out part is split in two halves.
    parts = fold[rows] if fold.max() > 0 else np.arange(len(rows)) % 2
    for part in np.unique(parts):
        inside = parts == part
        others = seen & ~inside
        calibration = fit_calibration(y[others], flow[others], ratio)
        calibrated[inside] = calibration.apply(flow[inside])
        t = fit_temperature(y[others], mean[others])
        calibrated_mean[inside] = tempered(mean[inside], t)
    return HeldOut(
        rows,
        fold[rows],
        {COMBINED: calibrated_mean, FLOWGMM: calibrated, **log_proba},
        fit_calibration(y[seen], flow[seen], ratio),
        fit_temperature(y[seen], mean[seen]),
        notes,
    )


def fit_baselines(
    methods: Mapping[str, Method],
    X: np.ndarray,
    codes: np.ndarray,
    X_new: np.ndarray,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Fit all methods but FlowGMM to the labelled rows, and predict other rows.

    Arguments:
        methods: By name.
        X: Features, shape (N, D).
        codes: Classes in 0..K-1, -1 where unlabelled, shape (N,).
        X_new: Features to predict for, shape (M, D).
        progress: Called with units done, all units, and the name of the work.

    Returns:
        Log probabilities in nats by name, shape (M, K).
    """

    def fit(method: Method, kept: np.ndarray) -> np.ndarray:
        used = kept if method.semi_supervised else kept[codes[kept] >= 0]
        fitted = method.estimator.fit(X[used], codes[used])
        return np.log(np.maximum(fitted.predict_proba(X_new), FLOOR))

    return _fit_others(methods, progress, fit, codes)[0]


def _fit_others(
    methods: Mapping[str, Method],
    progress: Progress | None,
    fit: Callable[[Method, np.ndarray], np.ndarray],
    codes: np.ndarray,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Apply `fit` to each method but FlowGMM and the rows that it gets; results, and notes."""
    from sklearn.exceptions import ConvergenceWarning

    others = {name: method for name, method in methods.items() if name != FLOWGMM}
    results, notes = {}, []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        for done, (name, method) in enumerate(others.items()):
            if progress is not None:
                progress(done, len(others), "held-out check, other methods")
            try:
                # TabPFN is large.
                with contextlib.nullcontext() if name == TABPFN else one_thread():
                    results[name] = fit(method, _kept(codes, method.limit))
            # Anything may go wrong in a package that is no dependency.
            except Exception as error:
                if name != TABPFN:
                    raise
                reason = " ".join(str(error).split())
                notes.append(f"TabPFN left out: {type(error).__name__}: {reason}")
    return results, notes


def _kept(codes: np.ndarray, limit: int | None) -> np.ndarray:
    """Rows for a method: the labelled ones and at most `limit` of the others, in order."""
    unlabelled = np.flatnonzero(codes < 0)
    if limit is None or len(unlabelled) <= limit:
        return np.arange(len(codes))
    drawn = np.random.default_rng(0).permutation(unlabelled)[:limit]
    return np.sort(np.concatenate([np.flatnonzero(codes >= 0), drawn]))


def _features_per_label(X: np.ndarray, codes: np.ndarray, components: int | None) -> float:
    """Ratio of modelled features, of which there are at most `components`, to labels."""
    return min(X.shape[1], components or X.shape[1]) / int((codes >= 0).sum())
