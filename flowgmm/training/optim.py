"""Learning-rate schedule, gradient clipping and Adam of a stack of seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

__all__ = ["Adam", "Group", "clip_", "learning_rate_factor", "ramp"]


@dataclass(frozen=True)
class Group:
    """Parameters that the optimizer treats alike.

    Arguments:
        parameters: The first axis of each is the seed.
        lr: Learning rate, before the schedule.
        weight_decay: Weight decay.
        clip: The gradients of the group are clipped, together.
    """

    parameters: list[nn.Parameter]
    lr: float
    weight_decay: float = 0.0
    clip: bool = True


def learning_rate_factor(schedule: str, step: int, n_steps: int) -> float:
    """Factor on the learning rate at a step.

    Arguments:
        schedule: `constant`; `cosine`: max((1 + cos(pi step / n_steps)) / 2, 1e-3); `steps`:
            divided by 10 after 50 % and again after 80 % of the steps; `late`: constant until
            50 %, then linear to 1 % at 90 %; `cosine_lagged`: cosine of the step before, since
            the authors' schedule moves after the optimizer (D48): the first rate comes twice.
        step: Number of the step, from 0 on.
        n_steps: Number of all steps.

    Returns:
        The factor, from 0 to 1.

    Examples:
        >>> [learning_rate_factor("steps", step, 10) for step in (0, 5, 9)]
        [1.0, 0.1, 0.01]

    Raises:
        ValueError: If the schedule is unknown.

    Source: spec 1.7.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return max(0.5 * (1 + math.cos(math.pi * step / n_steps)), 1e-3)
    if schedule == "cosine_lagged":
        return learning_rate_factor("cosine", max(step - 1, 0), n_steps)
    if schedule == "steps":
        return 1.0 if step < 0.5 * n_steps else 0.1 if step < 0.8 * n_steps else 0.01
    if schedule == "late":
        return min(1.0, max(0.01, 1 - 0.99 * (step / n_steps - 0.5) / 0.4))
    raise ValueError(
        f"unknown schedule {schedule!r}; expected constant, cosine, cosine_lagged, steps or late"
    )


def ramp(step: int, n_steps: int, share: float, every: int = 1) -> float:
    """Factor that grows linearly from 0 to 1 over the first `share` of the steps; 1 if share is 0.

    Keyed to the absolute step, so that a resumed run continues it (spec, trap 14).

    Arguments:
        step: Number of the step, from 0 on.
        n_steps: Number of all steps.
        share: Length of the ramp.
        every: Steps for which the factor stays as it is. With more than one it is (i + 1) / R in
            the i-th of them, and R, the length in such spans, is a whole number (D47).

    Examples:
        >>> [ramp(step, 8, 0.5, every=2) for step in range(5)]
        [0.5, 0.5, 1.0, 1.0, 1.0]
    """
    length = share * n_steps / every
    if every > 1:
        length = round(length)
    return min(1.0, (step // every + 1) / length) if length > 0 else 1.0


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


class Adam:
    """Adam (Kingma and Ba, 2015), fused, of groups of parameters with a rate and a decay of each.

    PyTorch's function without its class: the class imports the compiler when it is made, a second
    of every job, and costs a twentieth of a small step (measured: benchmarks/README.md).

    Arguments:
        groups: Groups of parameters; empty ones are skipped.
        decoupled: Decay is no part of the gradient (AdamW; Loshchilov and Hutter, 2019).
        recorded: Steps are recorded: rates lie in the device's memory.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        decoupled: bool,
        recorded: bool,
    ):
        self._groups = [group for group in groups if group.parameters]
        self._decoupled = decoupled
        self.parameters = [p for group in self._groups for p in group.parameters]
        self._state = {
            p: {
                "step": torch.zeros((), device=p.device),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
            for p in self.parameters
        }
        device = self.parameters[0].device
        self._rates: list[Any] = [
            torch.zeros((), device=device) if recorded else group.lr for group in self._groups
        ]

    def set_rates(self, factor: float) -> None:
        """Set the learning rates to a factor of the groups' own."""
        for i, group in enumerate(self._groups):
            if isinstance(self._rates[i], Tensor):
                self._rates[i].fill_(group.lr * factor)
            else:
                self._rates[i] = group.lr * factor

    def step(self) -> None:
        """Change the parameters that have a gradient, in place."""
        for group, rate in zip(self._groups, self._rates, strict=True):
            moved = [(p, p.grad, self._state[p]) for p in group.parameters if p.grad is not None]
            with torch.no_grad():
                adam(
                    [p for p, _, _ in moved],
                    [gradient for _, gradient, _ in moved],
                    [state["exp_avg"] for _, _, state in moved],
                    [state["exp_avg_sq"] for _, _, state in moved],
                    [],
                    [state["step"] for _, _, state in moved],
                    fused=True,
                    decoupled_weight_decay=self._decoupled,
                    amsgrad=False,
                    beta1=0.9,
                    beta2=0.999,
                    lr=rate,
                    weight_decay=group.weight_decay,
                    eps=1e-8,
                    maximize=False,
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
