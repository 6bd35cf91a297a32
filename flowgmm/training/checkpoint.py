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

__all__ = ["BestParameters", "Checkpoint", "TrainingState"]


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
        from safetensors.torch import save_file

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
            # As text: a diverged seed's losses are no JSON.
            "history": json.dumps([logged.steps, logged.losses, logged.failures]),
        }
        with atomic_path(self.path) as part:
            # Contiguous, and each with memory of its own.
            copies = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
            save_file(copies, part, metadata=header(meta))
            add_checksum(part)

    def load(self) -> TrainingState:
        """Restore model, optimizer and best parameters, if the file exists.

        Returns:
            The state to go on from: that of a start if the file is absent, or damaged; a damaged
            file is renamed and named on stderr.

        Raises:
            UserError: If the checkpoint belongs to another run.
        """
        if not self.path.exists():
            return TrainingState()
        meta, tensors, damage = self._read()
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
        self._optimizer.restore(_under("optimizer.", tensors))
        steps, losses, failures = json.loads(meta["history"])
        history = History(steps, losses, {int(k): v for k, v in failures.items()})
        device = self._optimizer.parameters[0].device
        sums = {k: v.to(device) for k, v in _under("sums.", tensors).items()}
        return TrainingState(meta["step"], history, sums, meta["n_summed"])

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor], str | None]:
        """Header and tensors, and the reason for which the file is damaged, or None."""
        from safetensors import SafetensorError, safe_open

        try:
            if (damage := verify_checksum(self.path)) is not None:
                return {}, {}, damage
            with safe_open(self.path, framework="pt") as handle:
                tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
                return read_header(handle), tensors, None
        except SafetensorError as error:
            return {}, {}, str(error)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with the prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
