"""A whole training step as one CUDA graph: recorded once, then a single launch per step.

What a small step costs on a GPU is launches. A graph replays the kernels of the recorded call on
the same memory, not its Python. So what tells a step from the others must be its `inputs`, which
are copied into the memory that the graph reads, or lie in the device's memory already, as the step
of a `CounterStream` does.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["Inputs", "Replayed", "Step", "capturer"]

# Inputs of a step: tensors (rows of the batch) or numbers (factors of losses).
Inputs = Mapping[str, Any]
# A step: from its inputs to the values that are logged.
Step = Callable[[Inputs], dict[str, Tensor]]
# Records a step on inputs that stay in place; returns what replays it and gives its results.
Capture = Callable[[Step, Inputs], Callable[[], dict[str, Tensor]]]

# Steps made call by call before one is recorded: libraries set themselves up in the first.
WARM_UP = 3


class Replayed:
    """A step that is recorded once for each kind of inputs: names, shapes and types.

    Arguments:
        step: What to record. Within it nothing may wait for the device or come from Python's side:
            after `WARM_UP` steps it is not called any more.
        device: Where it runs.
        capture: How to record.
    """

    def __init__(self, step: Step, device: torch.device, capture: Capture):
        self._step, self._device, self._capture = step, device, capture
        self._static: dict[tuple, dict[str, Tensor]] = {}
        self._calls: Counter[tuple] = Counter()
        self._replays: dict[tuple, Callable[[], dict[str, Tensor]]] = {}

    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """Make the step; the results are overwritten by the next one."""
        kind = tuple(
            (name, value.shape, value.dtype) if isinstance(value, Tensor) else (name,)
            for name, value in inputs.items()
        )
        if kind not in self._static:
            self._static[kind] = {
                name: torch.empty_like(value)
                if isinstance(value, Tensor)
                else torch.zeros((), dtype=torch.float64, device=self._device)
                for name, value in inputs.items()
            }
        static = self._static[kind]
        for name, value in inputs.items():
            if isinstance(value, Tensor):
                static[name].copy_(value, non_blocking=True)
            else:
                static[name].fill_(value)
        if kind not in self._replays:
            self._calls[kind] += 1
            if self._calls[kind] <= WARM_UP:
                return self._warm_up(static)
            self._replays[kind] = self._capture(self._step, static)
        return self._replays[kind]()

    def _warm_up(self, static: Inputs) -> dict[str, Tensor]:
        """A step call by call, on a stream of its own, as recording wants it."""
        if self._device.type != "cuda":
            return self._step(static)
        main, side = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)
        side.wait_stream(main)
        with torch.cuda.stream(side):
            results = self._step(static)
        main.wait_stream(side)
        return results


def capturer(device: torch.device) -> Capture | None:
    """Function that records the steps of a training on a device; None: not recorded."""
    if device.type != "cuda":
        return None
    # All graphs of a training have what lives within a step in the same memory: they never run
    # beside each other. It goes with the training.
    pool = torch.cuda.graph_pool_handle()

    def capture(step: Step, static: Inputs) -> Callable[[], dict[str, Tensor]]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=torch.cuda.Stream(device)):
            results = step(static)

        def replay() -> dict[str, Tensor]:
            graph.replay()
            return results

        return replay

    return capture
