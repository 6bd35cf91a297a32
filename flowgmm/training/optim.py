"""Gradient clipping and Adam of a stack of seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.adamax import adamax

__all__ = ["OPTIMIZERS", "Group", "Optimizer", "clip_"]

OPTIMIZERS = ("adam", "adamw", "adamax")


@dataclass(frozen=True)
class Group:
    """Parameters that the optimizer treats alike.

    Arguments:
        parameters: The first axis of each is the seed.
        lr: Learning rate, before the schedule.
        weight_decay: Weight decay.
        clip: The gradients of the group are clipped, together.
        betas: Decays of the two moments.
        final_beta1: The first of them at the end of a schedule that cools down
            (`flowgmm.training.schedules.cool_down`); None: it does not change.
        turn: Number of the loss, of those a step minimises in order, that moves the group.
    """

    parameters: list[nn.Parameter]
    lr: float
    weight_decay: float = 0.0
    clip: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    final_beta1: float | None = None
    turn: int = 0

    def beta1(self, cooling: float) -> float:
        """Decay of the first moment at a factor of `cool_down`."""
        if self.final_beta1 is None:
            return self.betas[0]
        return cooling * self.betas[0] + (1 - cooling) * self.final_beta1


def clip_(parameters: list[nn.Parameter], clip_norm: float, read: bool) -> None:
    """Scale the gradients of each seed so that their joint 2-norm is at most `clip_norm`.

    With `read` the factors are read, which waits for the device, and nothing is multiplied by 1.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    if len(gradients[0]) == 1:  # one seed: one call for all parameters
        norms = torch.stack(torch._foreach_norm(gradients)).unsqueeze(1)
    else:
        norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])
    factor = (clip_norm / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1)
    if read and bool((factor == 1).all()):  # NaN is no 1
        return
    if len(factor) == 1:
        torch._foreach_mul_(gradients, factor[0])
        return
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 1)))


class Optimizer:
    """Adam (Kingma and Ba, 2015) or Adamax of groups of parameters with a rate and decay of each.

    PyTorch's functions without their classes: a class imports the compiler when it is made, a
    second of every job, and costs a twentieth of a small step (measured: benchmarks/README.md).

    Arguments:
        groups: Groups of parameters; empty ones are skipped.
        kind: `adam`: weight decay is added to the gradient; `adamw`: it is no part of the gradient
            (Loshchilov and Hutter, 2019); `adamax`: as `adam`, with the infinity norm.
        recorded: Steps are recorded: rates lie in the device's memory.

    Raises:
        ValueError: If the kind is unknown.
    """

    def __init__(self, groups: Sequence[Group], kind: str, recorded: bool):
        if kind not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {kind!r}; expected {', '.join(OPTIMIZERS)}")
        self._groups = [group for group in groups if group.parameters]
        self._kind = kind
        self.parameters = [p for group in self._groups for p in group.parameters]
        second = "exp_inf" if kind == "adamax" else "exp_avg_sq"
        self._state: dict[Tensor, dict[str, Tensor]] = {
            p: {
                "step": torch.zeros((), device=p.device),
                "exp_avg": torch.zeros_like(p),
                second: torch.zeros_like(p),
            }
            for p in self.parameters
        }
        device = self.parameters[0].device
        self._rates: list[Any] = [
            torch.zeros((), device=device) if recorded else group.lr for group in self._groups
        ]
        self._cooling = 1.0

    def set_rates(self, factor: float, cooling: float = 1.0) -> None:
        """Set the learning rates to a factor of the groups' own, and the decay `Group.beta1`."""
        self._cooling = cooling
        for i, group in enumerate(self._groups):
            if isinstance(self._rates[i], Tensor):
                self._rates[i].fill_(group.lr * factor)
            else:
                self._rates[i] = group.lr * factor

    def step(self, turn: int = 0) -> None:
        """Change the parameters of a turn's groups that have a gradient, in place."""
        update = self._adamax if self._kind == "adamax" else self._adam
        for group, rate in zip(self._groups, self._rates, strict=True):
            moved: list[Tensor] = [p for p in group.parameters if p.grad is not None]
            if group.turn == turn and moved:
                with torch.no_grad():
                    update(group, rate, moved)

    def _moments(self, moved: list[Tensor], name: str) -> list[Tensor]:
        return [self._state[p][name] for p in moved]

    def _adam(self, group: Group, rate: Any, moved: list[Tensor]) -> None:
        adam(
            moved,
            [p.grad for p in moved if p.grad is not None],
            self._moments(moved, "exp_avg"),
            self._moments(moved, "exp_avg_sq"),
            [],
            self._moments(moved, "step"),
            fused=True,
            decoupled_weight_decay=self._kind == "adamw",
            amsgrad=False,
            beta1=group.beta1(self._cooling),
            beta2=group.betas[1],
            lr=rate,
            weight_decay=group.weight_decay,
            eps=1e-8,
            maximize=False,
        )

    def _adamax(self, group: Group, rate: Any, moved: list[Tensor]) -> None:
        adamax(
            moved,
            [p.grad for p in moved if p.grad is not None],
            self._moments(moved, "exp_avg"),
            self._moments(moved, "exp_inf"),
            self._moments(moved, "step"),
            eps=1e-8,
            beta1=group.beta1(self._cooling),
            beta2=group.betas[1],
            lr=rate,
            weight_decay=group.weight_decay,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Moments and numbers of steps, by the parameter's index."""
        return {
            f"{i}.{name}": value
            for i, p in enumerate(self.parameters)
            for name, value in self._state[p].items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the state that `tensors` returned."""
        for name, value in self.tensors().items():
            value.copy_(tensors[name])
