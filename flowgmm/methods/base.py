"""Interface between a neural method and the training of its stack of seeds."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from flowgmm.flows.pixels import Pixels, as_inputs
from flowgmm.flows.preprocessing import Preprocess
from flowgmm.flows.rng import Stream
from flowgmm.training.batches import Batches, StandardisedPoints, as_tensor, chunk_size
from flowgmm.training.loop import Inputs, Training

__all__ = ["ON_CPU", "ON_DEVICE", "STREAMS", "StackedEstimator", "find_device"]

# What is drawn once, or a little of it at every step: by the CPU, so that it is the same wherever
# the training runs. And what a step draws much of: by the device.
ON_CPU = ("initialisation", "means", "batches")
ON_DEVICE = ("dropout", "augmentation", "dequantisation")
STREAMS = ON_CPU + ON_DEVICE


class StackedEstimator(BaseEstimator, ABC):
    """An estimator whose seeds train together; a subclass builds the stack and gives its losses.

    A stack of seeds trains as one model whose parameters have the seed as their first axis
    (`flowgmm.methods.stack.fit_stack`). Afterwards each estimator holds its own member, a stack of
    one.
    """

    # Parameters of a subclass that need not be equal in a stack.
    _per_seed: ClassVar[tuple[str, ...]] = ("random_state",)

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

    # -- preparing a training ----------------------------------------------------------------

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
        x: Tensor | StandardisedPoints,
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
            size = chunk_size(x)
            hits = [
                self._log_posterior(model, as_inputs(x[part], model)).argmax(-1) == true
                for part, true in zip(rows.split(size, 1), truth.split(size, 1), strict=True)
            ]
            model.train()
            return torch.cat(hits, dim=1).double().mean(1)

        return accuracy

    def _shared_params(self) -> dict[str, Any]:
        return {k: v for k, v in self.get_params().items() if k not in self._per_seed}

    def _lead(self, X: np.ndarray, preprocess: Preprocess | Pixels) -> np.ndarray:
        """Modelled features of X, in the network's type."""
        if self.preprocess == "none" and isinstance(preprocess, Preprocess):
            return X
        return preprocess.lead(X, np.float64 if self.precision == "fp64" else np.float32)

    def _points(
        self,
        X: np.ndarray,
        preprocess: Preprocess | Pixels,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Tensor | StandardisedPoints:
        """All points as batches take them; X itself, and no copy of it, wherever that will do."""
        if self.preprocess == "standardise" and isinstance(preprocess, Preprocess):
            return StandardisedPoints(as_tensor(X).to(device), preprocess, dtype)
        return as_tensor(self._lead(X, preprocess), dtype).to(device)

    def _batches(
        self, x: Tensor | StandardisedPoints, codes: np.ndarray, rows: np.ndarray, stream: Stream
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

    def _load_state(self, state: dict[str, Tensor]) -> None:
        own = self._empty(self.preprocess_, len(self.classes_))
        own = own.to(next(iter(state.values())).dtype)
        own.load_state_dict(state)
        self.model_ = own.requires_grad_(False).eval()


def find_device(name: str) -> torch.device:
    """Device of a name; `auto`: the GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
