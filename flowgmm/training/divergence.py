"""History of a training's losses, and the rules by which a seed counts as diverged."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

__all__ = ["LOSS_BOUND", "N_EVALUATIONS", "DivergenceMonitor", "History"]

LOSS_BOUND = 1e8
# Evaluations of the losses in a training.
N_EVALUATIONS = 100


@dataclass
class History:
    """Losses logged during a training, and the seeds that diverged.

    Arguments:
        steps: Steps after which the losses were read.
        losses: Name -> a list of S means over the steps since the last log, for each log.
        failures: Index of the member in the stack -> why its run counts as diverged.
        inexact_resumes: Of each resume that may have changed the result the step, and of the
            checkpoint the precision of the moments and the device that wrote it.
    """

    steps: list[int] = field(default_factory=list)
    losses: dict[str, list[list[float]]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    inexact_resumes: list[dict[str, Any]] = field(default_factory=list)


class DivergenceMonitor:
    """Log of the summed losses that marks the seeds that diverged.

    A seed has diverged when its mean loss is not finite or beyond `LOSS_BOUND`, or when its
    labelled NLL stays far above its first value for a tenth of the training.

    Arguments:
        n_steps: Steps of the whole training.
        every: Steps between two evaluations.
        history: Where the losses and failures are logged.

    Source: spec, trap 19.
    """

    def __init__(self, n_steps: int, every: int, history: History):
        self.history = history
        # A tenth of the training above the labelled NLL that it started with counts as diverged;
        # of very few steps that would be too hasty.
        self.patience = -(-n_steps // (10 * every)) if n_steps >= N_EVALUATIONS else n_steps

    def evaluate(self, step: int, sums: dict[str, Tensor], n: int) -> None:
        """Log the means of losses that were summed over n steps up to `step`."""
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
        """Latest losses, each averaged over the seeds."""
        latest = {name: rows[-1] for name, rows in self.history.losses.items()}
        return " ".join(f"{name} {sum(v) / len(v):.4g}" for name, v in latest.items())
