"""Interface between a neural method and the training of its stack of seeds."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from flowgmm.flows.pixels import Pixels, as_inputs
from flowgmm.flows.preprocessing import Preprocess
from flowgmm.flows.rng import Stream
from flowgmm.methods.parts import PARTS, Part, Training
from flowgmm.training.batches import Batches, StandardisedPoints, as_tensor, chunk_size
from flowgmm.training.loop import Inputs, TrainingOptions
from flowgmm.training.optim import Group
from flowgmm.utils.progress import Progress

__all__ = ["ON_CPU", "ON_DEVICE", "STREAMS", "StackedEstimator"]

# What is drawn once, or a little of it at every step: by the CPU, so that it is the same wherever
# the training runs. And what a step draws much of: by the device.
ON_CPU = ("initialisation", "means", "batches")
ON_DEVICE = ("dropout", "augmentation", "dequantisation", "noise")
STREAMS = ON_CPU + ON_DEVICE


class StackedEstimator(BaseEstimator, ABC):
    """An estimator whose seeds train together; a subclass builds the stack and gives its losses.

    A stack of seeds trains as one model whose parameters have the seed as their first axis
    (`flowgmm.methods.stack.fit_stack`). Afterwards each estimator holds its own member, a stack of
    one.
    """

    # Parameters of a subclass that need not be equal in a stack.
    _per_seed: ClassVar[tuple[str, ...]] = ("random_state",)
    # Learned attributes that hold the parts in use.
    _used: ClassVar[tuple[str, ...]] = ("training_",)
    training_: Training

    def set_params(self, **params: Any) -> Self:
        """Set parameters; one of a part, as `training__lr`, makes a part that is None first.

        That part has its own defaults, `RealNVP()` or `Training()`, and no longer the preset's.
        """
        for name in params:
            part, _, inner = name.partition("__")
            if inner and part in self._part_names() and getattr(self, part) is None:
                setattr(self, part, self._default_part(part, inner))
        return super().set_params(**params)

    def _part_names(self) -> set[str]:
        return PARTS.keys() & self.get_params(deep=False).keys()

    def _default_part(self, name: str, inner: str) -> Part:
        """Part with its own defaults that has a parameter `inner`, else the first it may be."""
        made = [part() for part in PARTS[name]]
        return next((part for part in made if inner in part.get_params()), made[0])

    # -- what a subclass provides ------------------------------------------------------------

    @abstractmethod
    def _choose_parts(self, X: np.ndarray, n_labelled: int, n_classes: int) -> dict[str, Any]:
        """Learned attributes with the parts to use, given or by default, for data and labels."""

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

    def _turns(self) -> list[Callable[..., dict[str, Tensor]]]:
        """Functions with the arguments and results of `_losses`, minimised in order at each step.

        The groups of parameters that each moves have its number as their `turn`.
        """
        return [self._losses]

    def _groups(self, training: TrainingOptions, model: nn.Module) -> list[Group]:
        """Parameters to train, with their rates and decays."""
        mixture, undecayed = self._mixture_parameters(model), self._undecayed_parameters(model)
        return training.groups(model, mixture, undecayed)

    def _initialise(self, model: nn.Module, batches: Batches, streams: dict[str, Stream]) -> None:
        """Initialise the stack by data, on its device, before the first step; nothing here.

        A checkpoint is loaded afterwards.
        """

    def _schedule(self, step: int, n_steps: int, labelled_pass: int = 1) -> dict[str, float]:
        """Factors of the losses that change with the step.

        Arguments:
            step: Number of the step.
            n_steps: Number of all steps.
            labelled_pass: Steps in a pass over the labelled points.
        """
        return {}

    def _mixture_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        return []

    def _undecayed_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        return []

    def _passes(self) -> tuple[float, float]:
        """Forward passes that a step costs for a labelled and for an unlabelled point.

        A backward pass counts as two.
        """
        return 3.0, 3.0

    def _one_pass(self, model: nn.Module, shape: Sequence[int]) -> None:
        """Pass one point of a shape through the network, for its operations to be counted."""
        self._log_posterior(model.eval(), torch.full((1, 1, *shape), 0.5))

    def _operations_before(self, shape: Sequence[int], n_points: int) -> float:
        """Operations of what is trained before the stack, once for all seeds and label sets."""
        return 0.0

    def _uses_unlabelled(self) -> bool:
        return True

    def _labelled_in_unlabelled(self) -> bool:
        return True

    def _init_scores(self, model: nn.Module, batches: Batches) -> list[float]:
        """Score each member of the stack without labels, to choose among `n_init`."""
        return [0.0] * batches.labelled.shape[0]

    def _fit_preprocess(self, X: np.ndarray) -> Preprocess | Pixels:
        return Preprocess.fit(X, self.preprocess, self.pca_components)

    def _learn_preprocess(
        self, X: np.ndarray, checkpoint: Path | None, progress: Progress | None
    ) -> Preprocess | Pixels:
        """Preprocessing whose fit may be a training of its own, with files beside a checkpoint."""
        return self._fit_preprocess(X)

    def _after_training(self, model: nn.Module, batches: Batches) -> None:
        """Last changes to the trained stack, in evaluation mode."""

    # -- preparing a training ----------------------------------------------------------------

    def _inputs(
        self, batches: Batches, streams: dict[str, Stream], step: int, n_steps: int
    ) -> Inputs:
        """Inputs of a step: batch and schedule; also sets the random streams to that step."""
        for name in ON_DEVICE:
            streams[name].at(step)
        labelled_pass = batches.steps_per_labelled_pass
        return {**batches.at(step), **self._schedule(step, n_steps, labelled_pass)}

    def _validation(
        self,
        model: nn.Module,
        x: Tensor | StandardisedPoints,
        classes: np.ndarray,
        val: tuple[np.ndarray, np.ndarray] | None,
        n_init: int,
    ) -> Callable[[], Tensor] | None:
        """Function that gives each member's accuracy on its validation points, or None."""
        if self.training_.keep == "last":
            return None
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
        """Parameters that are equal in a stack, those of the parts by their own names."""
        params = self.get_params().items()
        return {k: v for k, v in params if k not in self._per_seed and not isinstance(v, Part)}

    def used_params(self) -> dict[str, Any]:
        """Parameters of the parts in use, after `fit`, named as ``training__lr``."""
        used: dict[str, Any] = {}
        for attribute in self._used:
            name, value = attribute.removesuffix("_"), getattr(self, attribute)
            if isinstance(value, Part):
                used[name] = type(value).__name__
                used |= {f"{name}__{key}": inner for key, inner in vars(value).items()}
            else:
                used[name] = value
        return used

    def _modelled(self, X: np.ndarray, preprocess: Preprocess | Pixels) -> np.ndarray:
        """Modelled features of X, in the network's type."""
        if isinstance(preprocess, Preprocess) and preprocess.kind == "none":
            return X
        return preprocess.modelled(X, np.float64 if self._dtype == torch.float64 else np.float32)

    @property
    def _dtype(self) -> torch.dtype:
        """Type of the parameters."""
        return torch.float64 if self.training_.precision == "fp64" else torch.float32

    def _points(
        self,
        X: np.ndarray,
        preprocess: Preprocess | Pixels,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Tensor | StandardisedPoints:
        """All points as batches take them; X itself, and no copy of it, wherever that will do."""
        if isinstance(preprocess, Preprocess) and preprocess.kind in ("standardise", "mixed"):
            return StandardisedPoints(as_tensor(X).to(device), preprocess, dtype)
        return as_tensor(self._modelled(X, preprocess), dtype).to(device)

    def _batches(
        self, x: Tensor | StandardisedPoints, codes: np.ndarray, rows: np.ndarray, stream: Stream
    ) -> Batches:
        labelled = [row[code >= 0] for row, code in zip(rows, codes, strict=True)]
        if not self._uses_unlabelled():
            unlabelled = [row[:0] for row in rows]
        elif self._labelled_in_unlabelled() or (codes >= 0).all():
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
            self.training_.labelled_batch,
            self.training_.unlabelled_batch,
            self.training_.sampling,
            stream,
        )

    def _training(self, steps_per_epoch: int) -> TrainingOptions:
        part = self.training_
        n_steps = part.n_steps
        if (n_steps is None) == (part.n_epochs is None):
            raise ValueError(
                f"exactly one of n_steps and n_epochs must be given, got n_steps={n_steps!r} and "
                f"n_epochs={part.n_epochs!r}"
            )
        if part.n_epochs is not None:
            n_steps = part.n_epochs * steps_per_epoch
        assert isinstance(n_steps, int | np.integer)
        return TrainingOptions(
            n_steps=int(n_steps),
            optimizer=part.optimizer,
            lr=part.lr,
            weight_decay=part.weight_decay,
            schedule=part.schedule,
            clip_norm=part.clip_norm,
            bf16=part.precision == "bf16",
            beta2=part.beta2,
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
