"""The training loop of every neural method.

All seeds of a stack advance together. Nothing inside a step waits for the device: losses are summed
there and read a hundred times a run, which is when divergence and progress are evaluated. All
randomness is a function of (seed, step) (`flowgmm.flows.rng`), so a checkpoint is the parameters,
the optimizer's moments, the step, the history and the sums since the last evaluation. One is
written every minute, and when the job is told to end.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm.training.checkpoint import BestParameters, Checkpoint, TrainingState
from flowgmm.training.cuda_graph import Inputs, Replayed, Step, capturer
from flowgmm.training.divergence import N_EVALUATIONS, DivergenceMonitor, History
from flowgmm.training.hardware import flush_denormals
from flowgmm.training.optim import Group, Optimizer, clip_
from flowgmm.training.schedules import cool_down, learning_rate_factor
from flowgmm.utils.io import content_hash
from flowgmm.utils.progress import Progress
from flowgmm.utils.signals import Interrupted, deferred

__all__ = ["Inputs", "Losses", "TrainingOptions", "train"]

# Called with what `train`'s `inputs` said of the step; returns losses per seed, shape (S,): "loss"
# is minimised, others logged.
Losses = Callable[[Inputs], dict[str, Tensor]]

# Seconds between two checkpoints.
CHECKPOINT_EVERY = 60.0


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training.

    Arguments:
        n_steps: Number of optimizer steps.
        optimizer: See `flowgmm.training.optim.Optimizer`.
        lr: Learning rate of the networks.
        weight_decay: Decay of the networks' parameters.
        schedule: See `flowgmm.training.schedules.learning_rate_factor`.
        clip_norm: Largest gradient norm, per seed; None: no clipping.
        mixture_lr: Learning rate of learnable means, spreads and weights (no decay, no clipping).
        bf16: Matrix products of the networks in bfloat16.
        beta2: Decay of the second moment of the networks' gradients.

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
    beta2: float = 0.999

    def groups(
        self,
        model: nn.Module,
        mixture: Iterable[nn.Parameter] = (),
        undecayed: Iterable[nn.Parameter] = (),
    ) -> list[Group]:
        """Group the parameters that are to be trained.

        Arguments:
            model: The stack.
            mixture: Those of the latent mixture: a learning rate of their own, no decay, no
                clipping.
            undecayed: Those of the networks without weight decay; they are clipped on their own.
        """
        in_mixture, without = {id(p) for p in mixture}, {id(p) for p in undecayed}
        trained = [p for p in model.parameters() if p.requires_grad]
        networks = [p for p in trained if id(p) not in in_mixture]
        decayed = [p for p in networks if id(p) not in without]
        betas = 0.9, self.beta2
        return [
            Group(decayed, self.lr, self.weight_decay, betas=betas),
            Group([p for p in networks if id(p) in without], self.lr, betas=betas),
            Group([p for p in mixture if p.requires_grad], self.mixture_lr, clip=False),
        ]


def train(
    model: nn.Module,
    losses: Losses | Sequence[Losses],
    training: TrainingOptions,
    inputs: Callable[[int], Inputs] = lambda step: {"step": step},
    groups: Sequence[Group] | None = None,
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
            divergence rule. Of several, each is evaluated after the update of the one before and
            moves the groups of its turn alone; "loss" of the second is logged as "loss_2". On a
            GPU steps are recorded (`flowgmm.training.cuda_graph`): then it is called in the first
            few only, and all that changes with the step comes from its inputs.
        training: Options.
        inputs: step -> inputs of its losses; if not given, the number of the step.
        groups: Parameters with their learning rates and decays; None: `training.groups(model)`.
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
    groups = training.groups(model) if groups is None else groups
    device = next(model.parameters()).device
    # A recorded update has one decay of the first moment, and Adamax's rate is Python's.
    changing = any(group.final_beta1 is not None for group in groups)
    capture = None if changing or training.optimizer == "adamax" else capturer(device)
    optimizer = Optimizer(groups, training.optimizer, recorded=capture is not None)
    best = BestParameters(model) if validate is not None else None
    saver, state = None, TrainingState()
    if checkpoint is not None:
        shapes = [[name, list(p.shape)] for name, p in model.state_dict().items()]
        fingerprint = content_hash([shapes, repr(training), identity, best is None])
        saver = Checkpoint(checkpoint, fingerprint, model, optimizer, best)
        state = saver.load()
    history, n_seeds = state.history, len(optimizer.parameters[0])
    every = max(1, training.n_steps // N_EVALUATIONS)
    stop = training.n_steps if stop is None else min(stop, training.n_steps)
    monitor = DivergenceMonitor(training.n_steps, every, history)
    # On a CPU there is nothing to wait for.
    read = capture is None and device.type == "cpu"
    turns = [losses] if callable(losses) else list(losses)
    make_step = _step(turns, training, groups, optimizer, read)
    if capture is not None:
        make_step = Replayed(make_step, device, capture)
    started, first, saved = time.monotonic(), state.step, time.monotonic()
    with deferred() as interrupted, flush_denormals():
        for step in range(state.step, stop):
            place = training.schedule, step, training.n_steps
            optimizer.set_rates(learning_rate_factor(*place), cool_down(*place))
            state.add(make_step(inputs(step)))
            if state.step % every == 0 or state.step >= stop:
                monitor.evaluate(*state.summed())
                if validate is not None and best is not None:
                    score = validate()
                    best.update(model, score)
                    history.losses.setdefault("val_accuracy", []).append(score.tolist())
                if progress is not None:
                    per_step = (time.monotonic() - started) / (state.step - first)
                    text = f"{monitor.text()} {1e3 * per_step:.1f} ms/step"
                    progress(state.step, training.n_steps, text)
                if len(history.failures) == n_seeds:
                    break
            due = time.monotonic() - saved >= CHECKPOINT_EVERY and state.step < training.n_steps
            if saver is not None and (due or interrupted()):
                saver.save(state)
                saved = time.monotonic()
            if (received := interrupted()) is not None:
                kept = "nothing is kept" if saver is None else "the checkpoint is saved"
                where = f"step {state.step} of {training.n_steps} done, {kept}"
                raise Interrupted(received, f"{where}; run the same command again to go on")
    if best is not None:
        model.load_state_dict(best.state)
    return history


def _step(
    turns: Sequence[Losses],
    training: TrainingOptions,
    groups: Sequence[Group],
    optimizer: Optimizer,
    read: bool,
) -> Step:
    """One optimizer step: for each turn forward, backward, clip, update; returns the losses."""
    moved = [
        [p for g in groups if g.turn == turn for p in g.parameters] for turn in range(len(turns))
    ]
    device_type = optimizer.parameters[0].device.type

    def make_step(inputs: Inputs) -> dict[str, Tensor]:
        logged: dict[str, Tensor] = {}
        for turn, losses in enumerate(turns):
            for parameter in optimizer.parameters:
                parameter.grad = None
            with torch.autocast(device_type, dtype=torch.bfloat16, enabled=training.bf16):
                values = losses(inputs)
            # The gradient reaches no parameter of another turn.
            values["loss"].sum().backward(inputs=moved[turn] if len(turns) > 1 else None)
            for group in groups:
                if group.clip and group.turn == turn and training.clip_norm is not None:
                    clip_(group.parameters, training.clip_norm, read)
            optimizer.step(turn)
            if turn:
                values[f"loss_{turn + 1}"] = values.pop("loss")
            logged |= {name: value.detach() for name, value in values.items()}
        return logged

    return make_step
