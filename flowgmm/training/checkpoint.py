"""Checkpoint of a training: one safetensors file, written whole or not at all."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm.training.divergence import History
from flowgmm.training.optim import Optimizer
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import add_checksum, atomic_path, header, read_header, verify_checksum

__all__ = [
    "MOMENTS",
    "BestParameters",
    "Checkpoint",
    "TrainingState",
    "read_checkpoint",
    "reduce_moments",
]

# Precision of the optimizer's moments in a checkpoint: as the training has them, in bfloat16, or
# the parameters alone.
MOMENTS = ("full", "bf16", "none")
# Entries of the header that checkpoints of earlier versions lack.
_UNMARKED: dict[str, Any] = {"moments": "full", "device": None, "inexact_resumes": []}


class BestParameters:
    """Parameters of each seed with the highest validation score so far (D41).

    Arguments:
        model: The stack at the start of the training.
    """

    def __init__(self, model: nn.Module):
        self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}
        first = next(iter(self.state.values()))
        self.score = first.new_full((len(first),), -math.inf)

    def update(self, model: nn.Module, score: Tensor) -> None:
        """Keep the parameters of the seeds whose score, shape (S,), is better than before."""
        better = score > self.score
        self.score = torch.where(better, score.to(self.score), self.score)
        for name, value in model.state_dict().items():
            self.state[name][better] = value[better]

    def tensors(self) -> dict[str, Tensor]:
        """State for a checkpoint."""
        return {"best_score": self.score} | {f"best.{k}": v for k, v in self.state.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the state that `tensors` returned."""
        self.score = tensors["best_score"].to(self.score)
        self.state = {k: tensors[f"best.{k}"].to(v) for k, v in self.state.items()}


@dataclass
class TrainingState:
    """Progress of a training: steps done, history, and losses summed since the last evaluation."""

    step: int = 0
    history: History = field(default_factory=History)
    sums: dict[str, Tensor] = field(default_factory=dict)
    n_summed: int = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Count a step and add its losses to the sums."""
        for name, value in losses.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        self.n_summed += 1
        self.step += 1

    def summed(self) -> tuple[int, dict[str, Tensor], int]:
        """Step, sums and how many steps they are of; new sums begin."""
        sums, n = self.sums, self.n_summed
        self.sums, self.n_summed = {}, 0
        return self.step, sums, n


class Checkpoint:
    """The state of a training in one file.

    Arguments:
        path: The file; absent at the start of a training.
        fingerprint: Hash of everything that decides the training's result.
        model: The stack.
        optimizer: Its moments are saved.
        best: Best parameters so far; None where the last ones are kept.
    """

    def __init__(
        self,
        path: Path,
        fingerprint: str,
        model: nn.Module,
        optimizer: Optimizer,
        best: BestParameters | None,
    ):
        self.path = path
        self.fingerprint = fingerprint
        self._model, self._optimizer, self._best = model, optimizer, best

    def save(self, state: TrainingState) -> None:
        """Write the file, whole or not at all."""
        tensors = {f"model.{k}": v for k, v in self._model.state_dict().items()}
        tensors |= {f"sums.{k}": v for k, v in state.sums.items()}
        if self._best is not None:
            tensors |= self._best.tensors()
        tensors |= {f"optimizer.{k}": v for k, v in self._optimizer.tensors().items()}
        logged = state.history
        meta = {
            "fingerprint": self.fingerprint,
            "step": state.step,
            "n_summed": state.n_summed,
            "moments": "full",
            "device": _device_name(self._optimizer.parameters[0].device),
            "inexact_resumes": state.history.inexact_resumes,
            # As text: a diverged seed's losses are no JSON.
            "history": json.dumps([logged.steps, logged.losses, logged.failures]),
        }
        # Contiguous, and each with memory of its own.
        copies = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
        _write(self.path, copies, meta)

    def load(self) -> TrainingState:
        """Restore model, optimizer and best parameters, if the file exists.

        A resume without the moments' full precision, or on another device, is not exact: the
        history says so.

        Returns:
            The state to go on from: that of a start if the file is absent, or damaged; a damaged
            file is renamed and named on stderr.

        Raises:
            UserError: If the checkpoint belongs to another run.
        """
        if not self.path.exists():
            return TrainingState()
        meta, tensors, damage = _read(self.path)
        if damage is not None:
            aside = self.path.with_name(f"{self.path.name}.damaged")
            self.path.replace(aside)
            print(
                f"checkpoint {self.path} is damaged ({damage}); it is now {aside.name}, and the "
                "training starts afresh",
                file=sys.stderr,
            )
            return TrainingState()
        if meta["fingerprint"] != self.fingerprint:
            raise UserError(
                f"checkpoint {self.path} belongs to another run; delete it to start this one afresh"
            )
        self._model.load_state_dict(_under("model.", tensors))
        if self._best is not None:
            self._best.restore(tensors)
        if meta["moments"] != "none":
            self._optimizer.restore(_under("optimizer.", tensors))
        steps, losses, failures = json.loads(meta["history"])
        device = self._optimizer.parameters[0].device
        resumes = [*meta["inexact_resumes"]]
        if meta["moments"] != "full" or meta["device"] not in (None, _device_name(device)):
            resumes.append({key: meta[key] for key in ("step", "moments", "device")})
            print(
                f"checkpoint {self.path} goes on after step {meta['step']}, not exactly: moments "
                f"{meta['moments']}, made on {meta['device']}",
                file=sys.stderr,
            )
        history = History(steps, losses, {int(k): v for k, v in failures.items()}, resumes)
        sums = {k: v.to(device) for k, v in _under("sums.", tensors).items()}
        return TrainingState(meta["step"], history, sums, meta["n_summed"])


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a checkpoint.

    Raises:
        UserError: If the file is missing, damaged or no checkpoint.
    """
    if not path.is_file():
        raise UserError(f"{path} not found; expected the checkpoint of an unfinished training")
    meta, tensors, damage = _read(path)
    if damage is not None:
        raise UserError(f"{path} is damaged or no checkpoint ({damage}); give another one")
    if "fingerprint" not in meta:
        raise UserError(f"{path} is no checkpoint of an unfinished training; give another one")
    return meta, tensors


def reduce_moments(source: Path, target: Path, moments: str) -> None:
    """Write a checkpoint with less of the optimizer's moments than another one has.

    Arguments:
        source: The checkpoint to read.
        target: The file to write.
        moments: `bf16`, or `none`: a training that resumes from it restarts them from zero.

    Raises:
        UserError: If the source is missing, damaged or no checkpoint.
        ValueError: If `moments` is unknown.
    """
    if moments not in MOMENTS[1:]:
        raise ValueError(f"unknown moments {moments!r}; expected {' or '.join(MOMENTS[1:])}")
    meta, tensors = read_checkpoint(source)
    names = [k for k in tensors if k.startswith("optimizer.")]
    for name in names:
        if moments == "none":
            del tensors[name]
        elif not name.endswith(".step"):
            tensors[name] = tensors[name].to(torch.bfloat16)
    meta["moments"] = max(moments, meta["moments"], key=MOMENTS.index)
    _write(target, tensors, meta)


def _write(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    from safetensors.torch import save_file

    with atomic_path(path) as part:
        save_file(dict(tensors), part, metadata=header(meta))
        add_checksum(part)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], str | None]:
    """Header and tensors, and the reason for which the file is damaged, or None."""
    from safetensors import SafetensorError, safe_open

    try:
        if (damage := verify_checksum(path)) is not None:
            return {}, {}, damage
        with safe_open(path, framework="pt") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            return {**_UNMARKED, **read_header(handle)}, tensors, None
    except SafetensorError as error:
        return {}, {}, str(error)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with the prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
