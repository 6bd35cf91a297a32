"""Base of the neural methods: scikit-learn's conventions, stacks of seeds, batches, saving."""

import hashlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data
from torch import Tensor, nn

from flowgmm.flows.pixels import Pixels, dequantise
from flowgmm.flows.preprocessing import Preprocess
from flowgmm.flows.rng import Stream, make_stream
from flowgmm.methods.labels import encode_labels
from flowgmm.training.divergence import History
from flowgmm.training.loop import Inputs, Training, train
from flowgmm.utils.errors import DivergedError, UserError
from flowgmm.utils.io import add_checksum, atomic_path, header, read_header, verify_checksum
from flowgmm.utils.progress import Progress
from flowgmm.utils.seeds import derive

__all__ = ["STREAMS", "Batches", "NeuralClassifier", "as_inputs"]

PRECISIONS = ("fp32", "bf16", "fp64")
# Rows, or images, per forward pass of a fitted model: bounds memory, keeps products large.
CHUNK, IMAGE_CHUNK = 4096, 256
# What is drawn once, or a little of it at every step: by the CPU, so that it is the same wherever
# the training runs. And what a step draws much of: by the device.
ON_CPU = ("initialisation", "means", "batches")
ON_DEVICE = ("dropout", "augmentation", "dequantisation")
STREAMS = ON_CPU + ON_DEVICE


class Standardised:
    """Points standardised on indexing: only the rows asked for, with `Preprocess.lead`'s bits.

    Nothing is kept beside the points themselves, which may be mapped from a file that jobs share.

    Arguments:
        points: On the device, shape (N, D).
        preprocess: It reorders columns and keeps their directions.
        dtype: Of what comes out.
    """

    def __init__(self, points: Tensor, preprocess: Preprocess, dtype: torch.dtype) -> None:
        self.shape = torch.Size([len(points), preprocess.n_lead])
        self.ndim, self.dtype, self.device = 2, dtype, points.device
        assert preprocess.order is not None
        order = preprocess.order[: preprocess.n_lead]
        self._points = points
        self._order = None if np.array_equal(order, range(points.shape[1])) else _at(order, points)
        self._shift = _at(preprocess.shift[order], points)
        self._scale = _at(preprocess.scale[: preprocess.n_lead], points)

    def __getitem__(self, rows: Any) -> Tensor:
        """Points of rows of any shape, shape (..., n_lead)."""
        x = self._points[rows]
        if self._order is not None:
            x = x[..., self._order]
        return (x.double() - self._shift).div_(self._scale).to(self.dtype)


@dataclass
class Batches:
    """Batches of points for each step of each seed.

    Arguments:
        x: All points on the device, shape (N, D), or images, shape (N, C, H, W) uint8; one copy
            whatever the number of seeds.
        labelled: Rows of the labelled points, shape (S, n_l).
        classes: Their classes, shape (S, n_l).
        unlabelled: Rows of the unlabelled points, shape (S, n_u); n_u may be 0.
        labelled_batch: Labelled points per step; None: all of them.
        unlabelled_batch: Unlabelled points per step.
        sampling: `shuffle` (every epoch a new permutation, a smaller last batch), `shuffle_full`
            (no smaller last batch), `fixed` (the rows in their own order, as the official loader
            does; D8), `replacement`.
        stream: Stream of the batches.
    """

    x: Tensor | Standardised
    labelled: Tensor
    classes: Tensor
    unlabelled: Tensor
    labelled_batch: int | None
    unlabelled_batch: int
    sampling: str
    stream: Stream

    def __post_init__(self) -> None:
        known = ("shuffle", "shuffle_full", "fixed", "replacement")
        if self.sampling not in known:
            raise ValueError(
                f"unknown sampling {self.sampling!r}; expected one of {', '.join(known)}"
            )
        self._order: dict[str, tuple[int, Tensor]] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass over the unlabelled points (labelled ones if there are none)."""
        if self.unlabelled.shape[1]:
            return self._n_batches(self.unlabelled.shape[1], self.unlabelled_batch)
        return self._n_batches(
            self.labelled.shape[1], self.labelled_batch or self.labelled.shape[1]
        )

    def _n_batches(self, n: int, size: int) -> int:
        """Batches of one pass over n points."""
        return max(1, n // size) if self.sampling == "shuffle_full" else -(-n // size)

    def _positions(self, name: str, n: int, size: int, step: int) -> Tensor:
        """Positions in 0..n-1 for a step, shape (S, at most size)."""
        # Labelled and unlabelled orders must differ: odd and even keys of one stream.
        key = 2 * step + (name == "labelled")
        if self.sampling == "replacement":
            return self.stream.at(key).integers(n, size).to(self.x.device, non_blocking=True)
        epoch, place = divmod(step, self._n_batches(n, size))
        if self._order.get(name, (-1, None))[0] != epoch:
            if self.sampling == "fixed":
                order = torch.arange(n, device=self.x.device).expand(self.labelled.shape[0], n)
            else:
                order = self.stream.at(2 * epoch + (name == "labelled")).permutation(n)
                order = order.to(self.x.device, non_blocking=True)
            self._order[name] = (epoch, order)
        return self._order[name][1][:, place * size : (place + 1) * size]

    def at(self, step: int) -> dict[str, Tensor]:
        """Rows of the labelled points of a step, their classes and, if any, the unlabelled rows.

        Shapes (S, b): `labelled`, `classes`, `unlabelled`.
        """
        rows, classes = self.labelled, self.classes
        n = rows.shape[1]
        if self.labelled_batch is not None and self.labelled_batch < n:
            at = self._positions("labelled", n, self.labelled_batch, step)
            rows, classes = rows.gather(1, at), classes.gather(1, at)
        inputs = {"labelled": rows, "classes": classes}
        if n := self.unlabelled.shape[1]:
            size = self.unlabelled_batch
            if self.sampling != "replacement":
                size = min(size, n)
            at = self._positions("unlabelled", n, size, step)
            inputs["unlabelled"] = self.unlabelled.gather(1, at)
        return inputs


class NeuralClassifier(ClassifierMixin, BaseEstimator, ABC):
    """Base of the neural classifiers; a subclass builds the stack and says what a step minimises.

    A stack of seeds trains as one model whose parameters have the seed as their first axis.
    Afterwards each estimator holds its own member, a stack of one.
    """

    # Parameters of a subclass that need not be equal in a stack.
    _per_seed: ClassVar[tuple[str, ...]] = ("random_state",)
    # Learned attributes of a subclass that go into a file.
    _saved: ClassVar[tuple[str, ...]] = ()

    # -- what a subclass provides ------------------------------------------------------------

    @abstractmethod
    def _build(self, batches: Batches, n_classes: int, streams: dict[str, Stream]) -> nn.Module:
        """The untrained stack, on the CPU or the batches' device."""

    @abstractmethod
    def _empty(self, preprocess: Preprocess | Pixels, n_classes: int) -> nn.Module:
        """A stack of one with the right shapes, to load parameters into."""

    @abstractmethod
    def _losses(
        self,
        model: nn.Module,
        batches: Batches,
        streams: dict[str, Stream],
        inputs: Inputs,
    ) -> dict[str, Tensor]:
        """Losses per seed at a step; see `flowgmm.training.loop.train`.

        What depends on the step comes from `_inputs` and from the streams.
        """

    @abstractmethod
    def _log_posterior(self, model: nn.Module, x: Tensor) -> Tensor:
        """Posterior log p(y | x), shape (S, B, K), of preprocessed points, shape (S, B, ...)."""

    def _schedule(self, step: int, n_steps: int) -> dict[str, float]:
        """Factors of the losses that change with the step."""
        return {}

    def _mixture_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        return []

    def _undecayed_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        return []

    def _uses_unlabelled(self) -> bool:
        return True

    def _init_scores(self, model: nn.Module, batches: Batches) -> list[float]:
        """Score each member of the stack without labels, to choose among `n_init`."""
        return [0.0] * batches.labelled.shape[0]

    def _fit_preprocess(self, X: np.ndarray) -> Preprocess | Pixels:
        return Preprocess.fit(X, self.preprocess, getattr(self, "pca_components", None))

    def _after_training(self, model: nn.Module, batches: Batches) -> None:
        """Last changes to the trained stack, in evaluation mode."""

    # -- fitting -----------------------------------------------------------------------------

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to labelled and unlabelled points.

        Arguments:
            X: Points, shape (N, D); of some methods also images, shape (N, C, H, W), uint8 or
                floats in [0, 1].
            y: Class of each, -1 where unlabelled, shape (N,). With string classes use dtype object.

        Returns:
            The estimator.

        Raises:
            ValueError: If the input is not finite, of another shape or has fewer than 2 classes.
            DivergedError: If training left its bounds; `history_` shows where.
        """
        X, y = self._validated(X, y)
        type(self).fit_stack([self], X, np.asarray(y)[None])
        if self.failure_ is not None:
            raise DivergedError(
                f"{type(self).__name__} {self.failure_}; lower lr, or set preprocess='standardise'"
            )
        return self

    @classmethod
    def fit_stack(
        cls,
        estimators: Sequence[Self],
        X: np.ndarray,
        ys: np.ndarray,
        rows: np.ndarray | None = None,
        val: tuple[np.ndarray, np.ndarray] | None = None,
        checkpoint: Path | None = None,
        share: float = 1.0,
        progress: Progress | None = None,
    ) -> None:
        """Fit S estimators that differ only in `random_state` in one stacked training.

        Arguments:
            estimators: S unfitted estimators.
            X: Points, shape (N, D), or images, shape (N, C, H, W).
            ys: Classes, -1 where unlabelled, shape (S, n). Every seed has as many labelled points.
            rows: Rows of X that each seed uses, shape (S, n); None: all, in order.
            val: Rows of X for validation and their classes, both shape (S, n_val); only
                `keep="best_val"` uses them.
            checkpoint: File to resume from, if it exists, and to save to; it belongs to these
                estimators and data.
            share: Share of the steps to make, to evaluate an unfinished training.
            progress: Called a hundred times with (step, n_steps, text).

        Afterwards an estimator is fitted, and its `failure_` is None or says how it diverged.

        Raises:
            ValueError: If the estimators differ or a parameter is out of range.
            UserError: If the checkpoint is damaged or belongs to another run.
        """
        first = estimators[0]
        for other in estimators[1:]:
            if type(other) is not type(first) or other._shared_params() != first._shared_params():
                raise ValueError("the estimators of a stack may differ in random_state only")
        if first.precision not in PRECISIONS:
            raise ValueError(
                f"unknown precision {first.precision!r}; expected one of {', '.join(PRECISIONS)}"
            )
        ys = np.asarray(ys)
        encoded = [encode_labels(y) for y in ys]
        classes = encoded[0][0]
        codes = np.stack([code for _, code in encoded])
        if any(not np.array_equal(other, classes) for other, _ in encoded[1:]):
            raise ValueError("every seed of a stack needs labelled points of the same classes")
        counts = (codes >= 0).sum(axis=1)
        if len(set(counts.tolist())) > 1:
            raise ValueError(
                "every seed of a stack needs the same number of labelled points, "
                f"got {counts.tolist()}"
            )
        # Every estimator owns `n_init` neighbouring members of the stack, and keeps the best one.
        n_init = getattr(first, "n_init", 1)
        if n_init < 1:
            raise ValueError(f"n_init must be 1 or more, got {n_init}")
        places = [
            place for est in estimators for place in first._draw_seeds(est.random_state, n_init)
        ]
        codes = codes.repeat(n_init, axis=0)
        device = _device(first.device)
        preprocess = first._fit_preprocess(X)
        dtype = torch.float64 if first.precision == "fp64" else torch.float32
        x = first._points(X, preprocess, dtype, device)
        if rows is None:
            rows = np.broadcast_to(np.arange(len(X)), ys.shape)
        rows = np.asarray(rows).repeat(n_init, axis=0)
        streams = {
            purpose: make_stream([place[purpose] for place in places], where)
            for purposes, where in ((ON_CPU, torch.device("cpu")), (ON_DEVICE, device))
            for purpose in purposes
        }
        batches = first._batches(x, codes, rows, streams["batches"])
        model = first._build(batches, len(classes), streams).to(device=device, dtype=dtype)
        training = first._training(batches.steps_per_epoch)
        validate = first._validation(model, x, classes, val, n_init)
        history = train(
            model,
            lambda inputs: first._losses(model, batches, streams, inputs),
            training,
            inputs=lambda step: first._inputs(batches, streams, step, training.n_steps),
            groups=training.groups(
                model, first._mixture_parameters(model), first._undecayed_parameters(model)
            ),
            checkpoint=checkpoint,
            identity=checkpoint
            and [
                cls.__name__,
                repr(first._shared_params()),
                places,
                [_digest(array) for array in (X, rows, codes)],
            ],
            validate=validate,
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
            estimator.seeds_ = places[s]
            estimator.history_ = _slice_history(history, s)
            estimator.failure_ = history.failures.get(s)
            estimator.n_iter_ = history.steps[-1]

    def _inputs(
        self, batches: Batches, streams: dict[str, Stream], step: int, n_steps: int
    ) -> Inputs:
        """Inputs of a step: batch and schedule; also sets the random streams to that step."""
        for name in ON_DEVICE:
            streams[name].at(step)
        return {**batches.at(step), **self._schedule(step, n_steps)}

    def _validation(
        self,
        model: nn.Module,
        x: Tensor | Standardised,
        classes: np.ndarray,
        val: tuple[np.ndarray, np.ndarray] | None,
        n_init: int,
    ) -> Callable[[], Tensor] | None:
        """Function that gives each member's accuracy on its validation points, or None."""
        if self.keep == "last":
            return None
        if self.keep != "best_val":
            raise ValueError(f"unknown keep {self.keep!r}; expected last or best_val")
        if val is None:
            raise ValueError("keep='best_val' needs validation points: fit_stack's `val`")
        rows, truth = (
            torch.as_tensor(np.repeat(part, n_init, axis=0)).to(x.device)
            for part in (val[0], np.searchsorted(classes, val[1]))
        )

        @torch.no_grad()
        def accuracy() -> Tensor:
            model.eval()
            size = _chunk(x)
            hits = [
                self._log_posterior(model, as_inputs(x[part], model)).argmax(-1) == true
                for part, true in zip(rows.split(size, 1), truth.split(size, 1), strict=True)
            ]
            model.train()
            return torch.cat(hits, dim=1).double().mean(1)

        return accuracy

    def _shared_params(self) -> dict[str, Any]:
        return {k: v for k, v in self.get_params().items() if k not in self._per_seed}

    @staticmethod
    def _draw_seeds(random_state: Any, n_init: int) -> list[dict[str, int]]:
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

    def _points(
        self,
        X: np.ndarray,
        preprocess: Preprocess | Pixels,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Tensor | Standardised:
        """All points as batches take them; X itself, and no copy of it, wherever that will do."""
        if self.preprocess == "standardise" and isinstance(preprocess, Preprocess):
            return Standardised(_as_tensor(X).to(device), preprocess, dtype)
        return _as_tensor(self._lead(X, preprocess), dtype).to(device)

    def _batches(
        self, x: Tensor | Standardised, codes: np.ndarray, rows: np.ndarray, stream: Stream
    ) -> Batches:
        labelled = [row[code >= 0] for row, code in zip(rows, codes, strict=True)]
        if not self._uses_unlabelled():
            unlabelled = [row[:0] for row in rows]
        elif getattr(self, "labelled_in_unlabelled", True) or (codes >= 0).all():
            unlabelled = list(rows)
        else:
            unlabelled = [row[code < 0] for row, code in zip(rows, codes, strict=True)]

        def on_device(parts: list[np.ndarray]) -> Tensor:
            return torch.as_tensor(np.stack(parts)).to(x.device)

        return Batches(
            x,
            on_device(labelled),
            on_device([code[code >= 0] for code in codes]),
            on_device(unlabelled),
            self.labelled_batch,
            getattr(self, "unlabelled_batch", 1),
            self.sampling,
            stream,
        )

    def _training(self, steps_per_epoch: int) -> Training:
        n_steps, n_epochs = self.n_steps, getattr(self, "n_epochs", None)
        if (n_steps is None) == (n_epochs is None):
            raise ValueError(
                f"exactly one of n_steps and n_epochs must be given, got n_steps={n_steps!r} and "
                f"n_epochs={n_epochs!r}"
            )
        if n_epochs is not None:
            n_steps = n_epochs * steps_per_epoch
        if n_steps < 1:
            raise ValueError(f"training needs at least 1 step, got {n_steps}")
        return Training(
            n_steps=n_steps,
            optimizer=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            clip_norm=self.clip_norm,
            bf16=self.precision == "bf16",
        )

    def _adopt(
        self,
        model: nn.Module,
        s: int,
        classes: np.ndarray,
        preprocess: Preprocess | Pixels,
        n_features: int,
    ) -> None:
        """Take member s of a stack as this estimator's fitted model."""
        self.classes_ = classes
        self.n_features_in_ = n_features
        self.preprocess_ = preprocess
        self._load_state({k: v[s : s + 1].detach().cpu() for k, v in model.state_dict().items()})

    # -- using -------------------------------------------------------------------------------

    def _map(self, function: Any, U: np.ndarray) -> list[np.ndarray]:
        """Apply a function of (1, B, ...) tensors to rows in chunks; concatenate its results."""
        device = _device(self.device)
        model = self.model_.to(device)
        dtype = next(model.parameters()).dtype
        size = _chunk(U)
        chunks = []
        with torch.no_grad():
            for start in range(0, max(len(U), 1), size):
                part = _as_tensor(U[start : start + size], dtype).to(device)
                inputs = as_inputs(part[None], model)
                chunks.append([t[0].cpu().numpy() for t in function(model, inputs)])
        self.model_.to("cpu")
        return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]

    def _validated(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64], ensure_min_samples=2)
        return X, y

    def _check(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, X, dtype=[np.float32, np.float64], reset=False)

    def _lead(self, X: np.ndarray, preprocess: Preprocess | Pixels) -> np.ndarray:
        """Modelled features of X, in the network's type."""
        if self.preprocess == "none" and isinstance(preprocess, Preprocess):
            return X
        return preprocess.lead(X, np.float64 if self.precision == "fp64" else np.float32)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Posterior log p(y | x) in nats, float64, shape (N, K); finite where p rounds to 0."""
        X = self._check(X)
        U = self._lead(X, self.preprocess_)
        return self._map(lambda m, u: (self._log_posterior(m, u).double(),), U)[0]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Posterior p(y | x), shape (N, K)."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class of each point, shape (N,)."""
        log_proba = self.predict_log_proba(X)
        return self.classes_[log_proba.argmax(axis=1)]

    # -- saving ------------------------------------------------------------------------------

    @classmethod
    def save_stack(
        cls,
        path: str | os.PathLike[str],
        estimators: Sequence[Self],
        run: Mapping[str, Any] | None = None,
    ) -> None:
        """Save fitted estimators of this class, and maybe which run they are of, as one file."""
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {}
        headers = []
        for s, estimator in enumerate(estimators):
            check_is_fitted(estimator)
            for name, value in estimator.model_.state_dict().items():
                tensors[f"{s}.model.{name}"] = value.contiguous()
            for name, array in estimator.preprocess_.arrays().items():
                tensors[f"{s}.preprocess.{name}"] = torch.tensor(np.ascontiguousarray(array))
            headers.append(
                {
                    "class": cls.__name__,
                    "params": estimator.get_params(),
                    "classes": estimator.classes_.tolist(),
                    "classes_dtype": str(estimator.classes_.dtype),
                    "n_features_in": estimator.n_features_in_,
                    "preprocess": estimator.preprocess_.header(),
                    **{name: getattr(estimator, name) for name in cls._saved},
                    "n_iter": estimator.n_iter_,
                    "seeds": estimator.seeds_,
                    "history": estimator.history_,
                    "failure": estimator.failure_,
                }
            )
        try:
            metadata = header({"estimators": headers, "run": dict(run or {})})
        except TypeError as error:
            raise ValueError(
                f"cannot save: {error}; use plain numbers, strings and lists as parameters and an "
                "int as random_state"
            ) from error
        with atomic_path(path) as part:
            save_file(tensors, part, metadata=metadata)
            add_checksum(part)

    @classmethod
    def load_stack(
        cls, path: str | os.PathLike[str], run: Mapping[str, Any] | None = None
    ) -> list[Self]:
        """Load what `save_stack` wrote.

        Arguments:
            path: The file.
            run: What must have been said about the run; None: anything.

        Raises:
            UserError: If the file is absent, damaged, of another class or of another run.
        """
        from safetensors import SafetensorError, safe_open

        try:
            if (reason := verify_checksum(path)) is not None:
                raise ValueError(reason)
            with safe_open(path, framework="pt") as handle:
                saved = read_header(handle)
                names = handle.keys()
                tensors = {name: handle.get_tensor(name) for name in names}
            if other := {
                k: saved["run"].get(k) for k, v in (run or {}).items() if saved["run"].get(k) != v
            }:
                raise ValueError(f"it is of another run: {other}")
            return [cls._from_saved(h, tensors, s) for s, h in enumerate(saved["estimators"])]
        except FileNotFoundError as error:
            raise UserError(f"model {path} is not there; train it, or check the path") from error
        except (
            SafetensorError,
            OSError,
            LookupError,
            ValueError,
            TypeError,
            RuntimeError,
        ) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"model {path} is damaged or no {cls.__name__} ({reason}); train it again"
            ) from error

    @classmethod
    def _from_saved(cls, header: dict[str, Any], tensors: dict[str, Tensor], s: int) -> Self:
        """Estimator s of a file from `save_stack`."""
        if header["class"] != cls.__name__:
            raise ValueError(f"it is a {header['class']}")
        estimator = cls(**header["params"])
        start = f"{s}.preprocess."
        arrays = {
            k.removeprefix(start): v.numpy() for k, v in tensors.items() if k.startswith(start)
        }
        front: type[Preprocess | Pixels] = Preprocess if arrays else Pixels
        estimator.preprocess_ = front.from_saved(header["preprocess"], arrays)
        for name in cls._saved:
            setattr(estimator, name, header[name])
        estimator.classes_ = np.array(header["classes"], dtype=header["classes_dtype"])
        estimator.n_features_in_ = header["n_features_in"]
        estimator.n_iter_ = header["n_iter"]
        estimator.seeds_ = header["seeds"]
        estimator.history_ = header["history"]
        estimator.failure_ = header["failure"]
        prefix = f"{s}.model."
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        estimator._load_state(state)
        return estimator

    def _load_state(self, state: dict[str, Tensor]) -> None:
        own = self._empty(self.preprocess_, len(self.classes_))
        own = own.to(next(iter(state.values())).dtype)
        own.load_state_dict(state)
        self.model_ = own.requires_grad_(False).eval()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the fitted estimator as a safetensors file (no pickle)."""
        type(self).save_stack(path, [self])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load what `save` wrote; see `load_stack` for the errors."""
        return cls.load_stack(path)[0]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _as_tensor(array: np.ndarray, dtype: torch.dtype | None = None) -> Tensor:
    """Pixels as they are, anything else in the network's type; a copy only where one is needed."""
    array = np.require(array, requirements=["C", "W"])  # what torch can share
    return torch.as_tensor(array, dtype=None if array.dtype == np.uint8 else dtype)


def _at(array: np.ndarray, points: Tensor) -> Tensor:
    """An array, copied, where the points are."""
    return torch.tensor(array, device=points.device)


def _chunk(x: Tensor | Standardised | np.ndarray) -> int:
    """Rows of x per forward pass."""
    return IMAGE_CHUNK if x.ndim == 4 else CHUNK


def as_inputs(x: Tensor, model: nn.Module) -> Tensor:
    """Inputs of a network at evaluation: pixels dequantised at the middle (D42)."""
    if x.dtype != torch.uint8:
        return x
    return dequantise(x.to(next(model.parameters()).dtype), 0.5)


def _digest(array: np.ndarray) -> str:
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
