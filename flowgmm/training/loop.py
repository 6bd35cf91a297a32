"""The training loop of every neural method: steps, schedule, clipping, checkpoint, exact resume.

All seeds of a stack advance together. Nothing inside a step waits for the device: losses are summed
there and read a hundred times a run, which is when divergence and progress are evaluated. All
randomness is a function of (seed, step) (`flowgmm.flows.rng`), so a checkpoint is the parameters,
the optimizer's moments, the step, the history and the sums since the last evaluation. One is
written every minute, and when the job is told to end.
"""

import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm.training.cuda_graph import Inputs, Replayed, Step, capturer
from flowgmm.training.optim import Adam, clip_, learning_rate_factor
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import (
    add_checksum,
    atomic_path,
    content_hash,
    header,
    read_header,
    verify_checksum,
)
from flowgmm.utils.progress import Progress
from flowgmm.utils.signals import Interrupted, deferred

__all__ = ["History", "Inputs", "Training", "train"]

# Called with what `train`'s `inputs` said of the step; returns losses per seed, shape (S,): "loss"
# is minimised, others logged.
Losses = Callable[[Inputs], dict[str, Tensor]]

LOSS_BOUND = 1e8
N_LOOKS = 100
# Seconds between two checkpoints.
CHECKPOINT_EVERY = 60.0


@dataclass(frozen=True)
class Training:
    """Options of a training; every field is a switch of the recipes.

    Arguments:
        n_steps: Number of optimizer steps.
        optimizer: `adamw` (decoupled decay) or `adam` (decay added to the gradient).
        lr: Learning rate of the networks.
        weight_decay: Decay of the networks' parameters.
        schedule: See `flowgmm.training.optim.learning_rate_factor`.
        clip_norm: Largest gradient norm, per seed; None: no clipping.
        mixture_lr: Learning rate of learnable means, spreads and weights (no decay, no clipping).
        bf16: Matrix products of the networks in bfloat16.

    Source: spec 1.5, 1.7.
    """

    n_steps: int
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-5
    schedule: str = "cosine"
    clip_norm: float | None = 100.0
    mixture_lr: float = 1e-2
    bf16: bool = False


@dataclass
class History:
    """Losses logged during a training, and the seeds that diverged.

    Arguments:
        steps: Steps after which the losses were read.
        losses: Name -> a list of S means over the steps since the last log, for each log.
        failures: Index of the member in the stack -> why its run counts as diverged.
    """

    steps: list[int] = field(default_factory=list)
    losses: dict[str, list[list[float]]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)


class _Best:
    """Parameters of each seed with the highest validation score so far (D41)."""

    def __init__(self, model: nn.Module):
        self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}
        first = next(iter(self.state.values()))
        self.score = first.new_full((len(first),), -math.inf)

    def look(self, model: nn.Module, score: Tensor) -> None:
        better = score > self.score
        self.score = torch.where(better, score.to(self.score), self.score)
        for name, value in model.state_dict().items():
            self.state[name][better] = value[better]

    def tensors(self) -> dict[str, Tensor]:
        return {"best_score": self.score} | {f"best.{k}": v for k, v in self.state.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.score = tensors["best_score"].to(self.score)
        self.state = {k: tensors[f"best.{k}"].to(v) for k, v in self.state.items()}


@dataclass
class _State:
    """Progress of a training: steps done, history, and losses summed since the last log."""

    step: int = 0
    history: History = field(default_factory=History)
    sums: dict[str, Tensor] = field(default_factory=dict)
    since_look: int = 0


class _Checkpoint:
    """The state of a run in one safetensors file, written whole or not at all."""

    def __init__(self, path: Path, fingerprint: str):
        self.path = path
        self.fingerprint = fingerprint

    def save(
        self,
        model: nn.Module,
        optimizer: Adam,
        at: _State,
        best: _Best | None,
    ) -> None:
        import json

        from safetensors.torch import save_file

        tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
        tensors |= {f"sums.{k}": v for k, v in at.sums.items()}
        if best is not None:
            tensors |= best.tensors()
        tensors |= {f"optimizer.{k}": v for k, v in optimizer.tensors().items()}
        seen = at.history
        meta = {
            "fingerprint": self.fingerprint,
            "step": at.step,
            "since_look": at.since_look,
            # As text: a diverged seed's losses are no JSON.
            "history": json.dumps([seen.steps, seen.losses, seen.failures]),
        }
        with atomic_path(self.path) as part:
            # Contiguous, and each with memory of its own.
            copies = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
            save_file(copies, part, metadata=header(meta))
            add_checksum(part)

    def load(self, model: nn.Module, optimizer: Adam, best: _Best | None) -> _State:
        import json

        from safetensors import SafetensorError, safe_open

        if not self.path.exists():
            return _State()
        try:
            reason = verify_checksum(self.path)
            with safe_open(self.path, framework="pt") as handle:
                names = handle.keys()
                tensors = {name: handle.get_tensor(name) for name in names}
                meta = {} if reason else read_header(handle)
        except SafetensorError as error:
            reason = str(error)
        if reason is not None:
            aside = self.path.with_name(f"{self.path.name}.damaged")
            self.path.replace(aside)
            print(
                f"checkpoint {self.path} is damaged ({reason}); it is now {aside.name}, and the "
                "training starts afresh",
                file=sys.stderr,
            )
            return _State()
        if meta["fingerprint"] != self.fingerprint:
            raise UserError(
                f"checkpoint {self.path} belongs to another run; delete it to start this one afresh"
            )
        model.load_state_dict(_under("model.", tensors))
        if best is not None:
            best.restore(tensors)
        optimizer.restore(_under("optimizer.", tensors))
        steps, losses, failures = json.loads(meta["history"])
        history = History(steps, losses, {int(k): v for k, v in failures.items()})
        device = optimizer.parameters[0].device
        sums = {k: v.to(device) for k, v in _under("sums.", tensors).items()}
        return _State(meta["step"], history, sums, meta["since_look"])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with the prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


class _Watch:
    """Logs the summed losses and marks the seeds that diverged (spec, trap 19)."""

    def __init__(self, n_steps: int, look_every: int, history: History):
        self.history = history
        # A tenth of the training above the labelled NLL that it started with counts as diverged;
        # of very few steps that would be too hasty.
        self.patience = -(-n_steps // (10 * look_every)) if n_steps >= N_LOOKS else n_steps

    def look(self, step: int, sums: dict[str, Tensor], n: int) -> None:
        history = self.history
        history.steps.append(step)
        for name, value in sums.items():
            history.losses.setdefault(name, []).append((value / n).tolist())
        for s, loss in enumerate(history.losses["loss"][-1]):
            if s not in history.failures and not abs(loss) < LOSS_BOUND:  # also true for NaN
                history.failures[s] = f"diverged: mean loss {loss:g} in the steps up to {step}"
        labelled = history.losses.get("labelled_nll", [])
        if len(labelled) > self.patience:
            for s, first in enumerate(labelled[0]):
                recent = [row[s] for row in labelled[-self.patience :]]
                # Well above: a flow that starts as the identity starts with a good value, which the
                # unlabelled points may rightly cost it a little of.
                bound = first + max(10.0, abs(first))
                if s not in history.failures and min(recent) > bound:
                    history.failures[s] = (
                        f"diverged: labelled NLL {recent[-1]:g} at step {step} has been above "
                        f"{bound:g}, far over its first value {first:g}, for a tenth of the "
                        "training"
                    )

    def text(self) -> str:
        latest = {name: rows[-1] for name, rows in self.history.losses.items()}
        return " ".join(f"{name} {sum(v) / len(v):.4g}" for name, v in latest.items())


def train(
    model: nn.Module,
    losses: Losses,
    training: Training,
    inputs: Callable[[int], Inputs] = lambda step: {"step": step},
    mixture_parameters: Iterable[nn.Parameter] = (),
    undecayed_parameters: Iterable[nn.Parameter] = (),
    checkpoint: Path | None = None,
    identity: Any = None,
    validate: Callable[[], Tensor] | None = None,
    stop: int | None = None,
    progress: Progress | None = None,
) -> History:
    """Train a stack of models in place.

    Arguments:
        model: All parameters of the stack; the first axis of each is the seed.
        losses: inputs of a step -> {"loss": (S,), ...}. The sum over seeds is minimised, which
            gives each seed its own gradient. A logged loss named "labelled_nll" takes part in the
            divergence rule. On a GPU steps are recorded (`flowgmm.training.cuda_graph`): then it is
            called in the first few only, and all that changes with the step comes from its inputs.
        training: Options.
        inputs: step -> inputs of its losses; if not given, the number of the step.
        mixture_parameters: Those of the model's parameters that belong to the latent mixture.
        undecayed_parameters: Those of the networks' parameters that have no weight decay; they are
            clipped on their own.
        checkpoint: File to resume from, if it exists, and to save to. The caller removes it once
            the results are safe.
        identity: JSON value that says which run the checkpoint belongs to, beside the shapes of
            the model and `training`.
        validate: Score of each seed's model on validation points, shape (S,), evaluated
            at every log; the model ends with the parameters of each seed's best score. None: with
            the last.
        stop: Leave the loop after this step, with the schedule of the whole; None: the last.
        progress: Called a hundred times a run.

    Returns:
        The logged losses and the seeds that diverged. A diverged seed never touches the others;
        training stops early only if all diverged.

    Raises:
        Interrupted: After a signal, once the checkpoint is saved (`flowgmm.utils.signals`).
        UserError: If the checkpoint belongs to another run; a damaged one is set aside.
        ValueError: If the optimizer or schedule is unknown.
    """
    mixture = [p for p in mixture_parameters if p.requires_grad]
    in_mixture = {id(p) for p in mixture}
    without = {id(p) for p in undecayed_parameters}
    networks = [p for p in model.parameters() if p.requires_grad and id(p) not in in_mixture]
    decayed = [p for p in networks if id(p) not in without]
    undecayed = [p for p in networks if id(p) in without]
    device = networks[0].device
    capture = capturer(device)
    if training.optimizer not in ("adam", "adamw"):
        raise ValueError(f"unknown optimizer {training.optimizer!r}; expected adam or adamw")
    optimizer = Adam(
        [
            (decayed, training.lr, training.weight_decay),
            (undecayed, training.lr, 0.0),
            (mixture, training.mixture_lr, 0.0),
        ],
        decoupled=training.optimizer == "adamw",
        recorded=capture is not None,
    )
    n_seeds = networks[0].shape[0]
    keeper = None
    best = _Best(model) if validate is not None else None
    at = _State()
    if checkpoint is not None:
        shapes = [[name, list(p.shape)] for name, p in model.state_dict().items()]
        keeper = _Checkpoint(
            checkpoint, content_hash([shapes, repr(training), identity, best is None])
        )
        at = keeper.load(model, optimizer, best)
    history = at.history
    look_every = max(1, training.n_steps // N_LOOKS)
    stop = training.n_steps if stop is None else min(stop, training.n_steps)
    watch = _Watch(training.n_steps, look_every, history)
    started, first, saved = time.monotonic(), at.step, time.monotonic()

    # On a CPU there is nothing to wait for.
    look = capture is None and device.type == "cpu"

    def make_step(of_step: Inputs) -> dict[str, Tensor]:
        for parameter in optimizer.parameters:
            parameter.grad = None
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=training.bf16):
            values = losses(of_step)
        values["loss"].sum().backward()
        if training.clip_norm is not None:
            for parameters in (decayed, undecayed):
                clip_(parameters, training.clip_norm, look=look)
        optimizer.step()
        return {name: value.detach() for name, value in values.items()}

    whole_step: Step = make_step
    if capture is not None:
        whole_step = Replayed(make_step, device, capture)
    with deferred() as interrupted:
        for step in range(at.step, stop):
            optimizer.set_rates(learning_rate_factor(training.schedule, step, training.n_steps))
            values = whole_step(inputs(step))
            for name, value in values.items():
                at.sums[name] = at.sums[name] + value if name in at.sums else value.clone()
            at.since_look += 1
            at.step = step + 1
            if at.step % look_every == 0 or at.step >= stop:
                watch.look(at.step, at.sums, at.since_look)
                at.sums, at.since_look = {}, 0
                if validate is not None and best is not None:
                    score = validate()
                    best.look(model, score)
                    history.losses.setdefault("val_accuracy", []).append(score.tolist())
                if progress is not None:
                    per_step = (time.monotonic() - started) / (at.step - first)
                    text = f"{watch.text()} {1e3 * per_step:.1f} ms/step"
                    progress(at.step, training.n_steps, text)
                if len(history.failures) == n_seeds:
                    break
            due = time.monotonic() - saved >= CHECKPOINT_EVERY and at.step < training.n_steps
            if keeper is not None and (due or interrupted()):
                keeper.save(model, optimizer, at, best)
                saved = time.monotonic()
            if (received := interrupted()) is not None:
                kept = "nothing is kept" if keeper is None else "the checkpoint is saved"
                where = f"step {at.step} of {training.n_steps} done, {kept}"
                raise Interrupted(received, f"{where}; run the same command again to go on")
    if best is not None:
        model.load_state_dict(best.state)
    return history
