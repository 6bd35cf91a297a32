"""A whole training step as one CUDA graph: recorded once, then a single launch per step.

What a small step costs on a GPU is launches. A graph replays the kernels of the recorded call on
the same memory, not its Python. So what tells a step from the others must be its `inputs`, which
are copied into the memory that the graph reads, or lie in the device's memory already, as the step
of a `CounterStream` does.
"""

import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["Inputs", "Replayed", "Step", "capturer"]

# What tells a step from the others: tensors (rows of the batch) or numbers (factors of losses).
Inputs = Mapping[str, Any]
# A step: from its inputs to what is watched.
Step = Callable[[Inputs], dict[str, Tensor]]
# Records a step on inputs that stay in place; returns what replays it and gives its results.
Capture = Callable[[Step, Inputs], Callable[[], dict[str, Tensor]]]

# Steps made call by call before one is recorded: libraries set themselves up in the first.
WARM_UP = 3


class Replayed:
    """A step that is recorded once for each kind of inputs: names, shapes and types.

    Arguments:
        step: What to record. Within it nothing may wait for the device or come from it to Python.
        device: Where it runs.
        capture: How to record.
    """

    def __init__(self, step: Step, device: torch.device, capture: Capture):
        self._step, self._device, self._capture = step, device, capture
        self._calls: dict[tuple, int] = {}
        self._static: dict[tuple, dict[str, Tensor]] = {}
        self._replays: dict[tuple, Callable[[], dict[str, Tensor]]] = {}

    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """Make the step; the results are overwritten by the next one."""
        kind = tuple(
            (name, value.shape, value.dtype) if isinstance(value, Tensor) else (name,)
            for name, value in inputs.items()
        )
        if kind not in self._static:
            self._static[kind] = {
                name: torch.empty_like(value) if isinstance(value, Tensor) else self._scalar()
                for name, value in inputs.items()
            }
        static = self._static[kind]
        for name, value in inputs.items():
            if isinstance(value, Tensor):
                static[name].copy_(value, non_blocking=True)
            else:
                static[name].fill_(value)
        if kind in self._replays:
            return self._replays[kind]()
        calls = self._calls[kind] = self._calls.get(kind, 0) + 1
        if calls <= WARM_UP:
            return self._warm_up(static)
        self._replays[kind] = self._capture(self._step, static)
        return self._replays[kind]()

    def _scalar(self) -> Tensor:
        return torch.zeros((), device=self._device)

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


@cache
def _memory() -> Any:
    """Where all graphs have what lives within a step: they never run beside each other."""
    return torch.cuda.graph_pool_handle()


def capture_cuda_graph(step: Step, static: Inputs) -> Callable[[], dict[str, Tensor]]:
    """Record a CUDA graph; where that cannot be, say so and go on call by call."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, pool=_memory()):
            results = step(static)
    except RuntimeError as error:  # nothing has run: recording does not execute
        reason = " ".join(str(error).split())
        print(f"no CUDA graph ({reason}); steps are made call by call", file=sys.stderr)
        return lambda: step(static)

    def replay() -> dict[str, Tensor]:
        graph.replay()
        return results

    return replay


def capturer(device: torch.device) -> Capture | None:
    """How steps are recorded on a device; None: not at all."""
    return capture_cuda_graph if device.type == "cuda" else None
