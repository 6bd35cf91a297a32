"""FlowGMM and a random forest together: the mean of their probabilities."""

import os
import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from flowgmm.methods.averaging import WEIGHT, averaged
from flowgmm.methods.calibration import fit_temperature
from flowgmm.methods.cross_fit import cross_fit, make_folds, seen_when_held_out
from flowgmm.methods.flow_gmm import FlowGMMClassifier
from flowgmm.methods.forest import ForestClassifier
from flowgmm.methods.labels import check_labels, encode_labels
from flowgmm.methods.parts import LatentMixture, Objective, RealNVP, Training
from flowgmm.methods.stack import fit_stack
from flowgmm.utils.errors import DivergedError, UserError
from flowgmm.utils.io import read_tensors, write_tensors
from flowgmm.utils.seeds import derive

__all__ = ["FlowForestClassifier", "flow_forest"]


class FlowForestClassifier(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin, BaseEstimator
):
    """FlowGMM and a random forest on the same vectors; their probabilities are averaged.

    p(y | x) is the mean (1 - w) p_flow^(1/2) / Z + w p_forest at a temperature T. The flow learns
    from unlabelled points, and gives the density, the latent codes and the samples.

    Arguments:
        flow_gmm: Unfitted `FlowGMMClassifier`; None: the default one.
        forest: Unfitted `ForestClassifier`; None: the default one.
        weight: Share w of the forest, in 0..1.
        temperature: T of the mean; None: from held-out labels, shrunk to 1.
        n_folds: Folds of the labelled points of which each is held out once for T, 2 or more.
        random_state: Seed of the folds and of both parts; None: each part has its own.

    Attributes:
        classes_, n_features_in_: As everywhere in scikit-learn.
        flow_gmm_: The fitted FlowGMM.
        forest_: The fitted forest.
        temperature_: Temperature of the mean.
        held_out_: Log probabilities of the held-out labelled points in order, `flow_gmm` and
            `forest`, shape (n, K) each, and their `rows`, shape (n,); empty if the temperature was
            given.

    Examples:
        >>> from sklearn.datasets import make_moons
        >>> X, y = make_moons(200, noise=0.05, random_state=0)
        >>> y[20:] = -1
        >>> model = FlowForestClassifier(temperature=1.0, random_state=0).fit(X, y)
        >>> model.predict_proba(X).shape, model.score_samples(X).shape
        ((200, 2), (200,))
    """

    def __init__(
        self,
        flow_gmm: FlowGMMClassifier | None = None,
        forest: ForestClassifier | None = None,
        weight: float = WEIGHT,
        temperature: float | None = None,
        n_folds: int = 5,
        random_state: Any = None,
    ):
        self.flow_gmm = flow_gmm
        self.forest = forest
        self.weight = weight
        self.temperature = temperature
        self.n_folds = n_folds
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fit both parts to labelled and unlabelled points.

        Arguments:
            X: Points, shape (N, D).
            y: Class of each, -1 where unlabelled, shape (N,). With string classes use dtype object.

        Returns:
            The estimator.

        Raises:
            ValueError: If the input is not finite, of another shape or has fewer than 2 classes, or
                a parameter is out of range.
            DivergedError: If a training left its bounds.
        """
        self._check_params()
        if getattr(X, "ndim", 2) == 4:
            raise ValueError(
                f"expected vectors, shape (N, D), got images, shape {X.shape}; use "
                "FlowGMMClassifier for images"
            )
        check_labels(y)
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64], ensure_min_samples=2)
        y = np.asarray(y)
        _, codes = encode_labels(y)
        flow = FlowGMMClassifier() if self.flow_gmm is None else clone(self.flow_gmm)
        forest = ForestClassifier() if self.forest is None else clone(self.forest)
        seed = self.random_state
        if seed is not None and not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(2**31)
        if seed is not None:
            for part, name in ((flow, "flow"), (forest, "forest")):
                state = derive(f"flow forest/{name}", int(seed), "initialisation")
                part.set_params(random_state=state)
        self.held_out_: dict[str, np.ndarray] = {}
        temperature = self.temperature
        if temperature is None:
            fold_seed = check_random_state(seed).randint(2**31)
            temperature = self._cross_fit(flow, forest, X, y, codes, fold_seed)
        fit_stack([flow], X, y[None])
        if flow.failure_ is not None:
            raise DivergedError(
                f"{type(flow).__name__} {flow.failure_}; standardise the columns, or lower its "
                "learning rate"
            )
        self._take(flow, forest.fit(X, y), float(temperature))
        return self

    def _check_params(self) -> None:
        for name, low, high in (("weight", 0.0, 1.0), ("temperature", 1e-6, np.inf)):
            value = getattr(self, name)
            if name == "temperature" and value is None:
                continue
            if not isinstance(value, int | float | np.number) or not low <= value <= high:
                raise ValueError(f"{name} must be in {low:g} to {high:g}, got {value!r}")
        if self.n_folds < 2:
            raise ValueError(f"n_folds must be 2 or more, got {self.n_folds!r}")

    def _cross_fit(
        self,
        flow: FlowGMMClassifier,
        forest: ForestClassifier,
        X: np.ndarray,
        y: np.ndarray,
        codes: np.ndarray,
        seed: int,
    ) -> float:
        """Temperature from predictions for held-out points, which are kept."""
        fold = make_folds(codes, self.n_folds, seed)
        rows = np.flatnonzero(fold >= 0)
        self.held_out_ = {
            "rows": rows,
            "flow_gmm": cross_fit(flow, X, y, fold),
            "forest": cross_fit(forest, X, y, fold),
        }
        # A class that a fold does not know says nothing about the fold's confidence.
        seen = seen_when_held_out(codes, fold)
        log_flow, log_forest = (self.held_out_[name][seen] for name in ("flow_gmm", "forest"))
        return fit_temperature(codes[rows[seen]], averaged(log_flow, log_forest, self.weight))

    def _take(self, flow: FlowGMMClassifier, forest: ForestClassifier, temperature: float) -> None:
        self.flow_gmm_, self.forest_, self.temperature_ = flow, forest, temperature
        self.classes_ = forest.classes_
        self.n_features_in_ = forest.n_features_in_

    @classmethod
    def from_fitted(
        cls,
        flow_gmm: FlowGMMClassifier,
        forest: ForestClassifier,
        temperature: float,
        weight: float = WEIGHT,
    ) -> Self:
        """Combine parts that were fitted to the same points.

        Arguments:
            flow_gmm: Fitted FlowGMM.
            forest: Fitted forest.
            temperature: Temperature of the mean.
            weight: Share of the forest, in 0..1.
        """
        combined = cls(clone(flow_gmm), clone(forest), weight, temperature)
        combined.held_out_ = {}
        combined._take(flow_gmm, forest, temperature)
        return combined

    @property
    def _n_features_out(self) -> int:
        return len(self.flow_gmm_.get_feature_names_out())

    def _check(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        checked: np.ndarray = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        return checked

    # -- classes -----------------------------------------------------------------------------

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Log of the mean probabilities in nats, float64, shape (N, K)."""
        X = self._check(X)
        # Before FlowGMM's own calibration: the mean has another.
        flow = self.flow_gmm_
        log_flow = (flow.predict_log_proba(X) - flow.offsets_) * flow.temperature_
        log_forest = self.forest_.predict_log_proba(X)
        return averaged(log_flow, log_forest, self.weight, self.temperature_)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Mean probabilities of the classes, shape (N, K)."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class of each point, shape (N,)."""
        log_proba = self.predict_log_proba(X)
        return self.classes_[log_proba.argmax(axis=1)]

    # -- of the flow -------------------------------------------------------------------------

    def score_samples(self, X: Any) -> np.ndarray:
        """Log density log p(x) of FlowGMM in nats, float64, shape (N,)."""
        return self.flow_gmm_.score_samples(self._check(X))

    def transform(self, X: Any) -> np.ndarray:
        """Latent code of each point, shape (N, D)."""
        return self.flow_gmm_.transform(self._check(X))

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Point with each latent code Z, shape (N, D)."""
        check_is_fitted(self)
        return self.flow_gmm_.inverse_transform(Z)

    def sample(
        self, n: int, y: Any = None, temperature: float = 1.0, random_state: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw new points and their classes; see `FlowGMMClassifier.sample`."""
        check_is_fitted(self)
        return self.flow_gmm_.sample(n, y, temperature, random_state)

    # -- files -------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the fitted estimator, without `held_out_`, as a safetensors file (no pickle).

        The files of both parts are arrays of bytes in it.

        Raises:
            ValueError: If a parameter is not a plain number, string or list.
        """
        check_is_fitted(self)
        arrays, given = {}, {}
        with tempfile.TemporaryDirectory() as folder:
            for name in ("flow_gmm", "forest"):
                part = Path(folder, name)
                getattr(self, f"{name}_").save(part)
                arrays[name] = np.frombuffer(part.read_bytes(), dtype=np.uint8)
                own = getattr(self, name)
                given[name] = own if own is None else {"random_state": own.random_state}
        params = {k: v for k, v in self.get_params(deep=False).items() if k not in given}
        meta = {"class": type(self).__name__, "params": params, "given": given}
        try:
            write_tensors(path, arrays, meta | {"temperature": self.temperature_})
        except TypeError as error:
            raise ValueError(f"cannot save: {error}; use an int as random_state") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load what `save` wrote.

        Raises:
            UserError: If the file is absent, damaged or of another class.
        """
        if not Path(path).is_file():
            raise UserError(f"model {path} not found; train it, or check the path")
        arrays, meta = read_tensors(path)
        if meta.get("class") != cls.__name__:
            raise UserError(
                f"model {path}: expected a {cls.__name__}, got {meta.get('class', 'no model')}; "
                "check the path"
            )
        parts = {}
        with tempfile.TemporaryDirectory() as folder:
            for name, part in (("flow_gmm", FlowGMMClassifier), ("forest", ForestClassifier)):
                file = Path(folder, name)
                file.write_bytes(arrays[name].tobytes())
                parts[name] = part.load(file)
        given = {
            name: clone(parts[name]).set_params(**params)
            for name, params in meta["given"].items()
            if params is not None
        }
        combined = cls(**given, **meta["params"])
        combined.held_out_ = {}
        combined._take(parts["flow_gmm"], parts["forest"], meta["temperature"])
        return combined


def flow_forest(
    flow: RealNVP | None = None,
    mixture: LatentMixture | None = None,
    objective: Objective | None = None,
    training: Training | None = None,
    preprocess: str | None = None,
    pca_components: int | None = None,
    n_init: int = 1,
    random_state: Any = None,
) -> FlowForestClassifier:
    """FlowGMM on the CPU and the default forest, flat so that a config can state it.

    Arguments:
        flow: Of `FlowGMMClassifier`, as the next six.
        mixture: Latent mixture.
        objective: Weights of the loss.
        training: Steps and optimizer.
        preprocess: Of the vectors that FlowGMM sees.
        pca_components: Components that go through the flow.
        n_init: Initialisations to choose from.
        random_state: Of `FlowForestClassifier`.
    """
    flow_gmm = FlowGMMClassifier(
        flow,
        mixture,
        objective,
        training,
        preprocess,
        pca_components,
        n_init=n_init,
        device="cpu",
    )
    return FlowForestClassifier(flow_gmm, random_state=random_state)
