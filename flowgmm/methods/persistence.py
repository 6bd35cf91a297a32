"""Fitted estimators as one safetensors file, without pickle."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from flowgmm.flows.pixels import Pixels
from flowgmm.flows.preprocessing import Preprocess
from flowgmm.methods.base import StackedEstimator
from flowgmm.methods.parts import part_from_json, part_to_json
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import add_checksum, atomic_path, header, read_header, verify_checksum

__all__ = ["PersistentEstimator"]


class PersistentEstimator(StackedEstimator):
    """Saving and loading of fitted estimators, one or a whole stack."""

    # Learned attributes of a subclass that go into a file, and what they are in files of earlier
    # versions, which lack them.
    _saved: ClassVar[dict[str, Any]] = {}

    @classmethod
    def save_stack(
        cls,
        path: str | os.PathLike[str],
        estimators: Sequence[Self],
        run: Mapping[str, Any] | None = None,
    ) -> None:
        """Save fitted estimators of this class as one file.

        Arguments:
            path: The file; it appears whole or not at all.
            estimators: Fitted estimators.
            run: JSON values that say which run they are of.

        Raises:
            ValueError: If a parameter is not a plain number, string or list.
        """
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
                    "params": {
                        name: part_to_json(value)
                        for name, value in estimator.get_params(deep=False).items()
                    },
                    "used": {name: part_to_json(getattr(estimator, name)) for name in cls._used},
                    "classes": estimator.classes_.tolist(),
                    "classes_dtype": str(estimator.classes_.dtype),
                    "n_features_in": estimator.n_features_in_,
                    "preprocess": estimator.preprocess_.header(),
                    **{name: np.asarray(getattr(estimator, name)).tolist() for name in cls._saved},
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
            raise UserError(f"model {path} not found; train it, or check the path") from error
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
        estimator = cls(**{k: part_from_json(v) for k, v in header["params"].items()})
        for name in cls._used:
            setattr(estimator, name, part_from_json(header["used"][name]))
        start = f"{s}.preprocess."
        arrays = {
            k.removeprefix(start): v.numpy() for k, v in tensors.items() if k.startswith(start)
        }
        estimator.preprocess_ = cls._saved_preprocess(header["preprocess"], arrays)
        for name, absent in cls._saved.items():
            value = header.get(name, absent)
            setattr(estimator, name, np.array(value) if isinstance(value, list) else value)
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

    @classmethod
    def _saved_preprocess(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
        """Preprocessing from what it gave to save."""
        front: type[Preprocess | Pixels] = Preprocess if arrays else Pixels
        return front.from_saved(header, arrays)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the fitted estimator as a safetensors file (no pickle)."""
        type(self).save_stack(path, [self])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load what `save` wrote; see `load_stack` for the errors."""
        return cls.load_stack(path)[0]
