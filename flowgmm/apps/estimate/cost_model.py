"""Cost model: operations of a job, counted from its spec, and the speed of this machine.

Counts are rough on purpose: they are right within a factor of about two, and where finished jobs
are scaled, constant factors cancel.
"""

import functools
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowgmm.experiments.sizes import Size

__all__ = ["ASSUMED_GPU", "Machine", "Work", "count", "measure"]

# Factor for the other operations of a training step: activations, dropout, the optimizer.
OVERHEAD = 1.3
# An optimizer's update of all parameters, bound by memory, takes as long as this many points.
UPDATE_POINTS = 16
# Parameters that no network's shape depends on.
NO_SHAPE = ("training", "objective")
# Small operations per layer and step: forward, backward, update.
CALLS_PER_LAYER = 350
# Kernels per layer of a step that a GPU replays: 515 of a flow of 21 layers.
KERNELS_PER_LAYER = 25
# float64 and functions such as exp, against float32 products.
SLOW = 4.0
FLOW_FOREST = "flowgmm.methods.flow_forest.flow_forest"
FLOW_GMM = "flowgmm.methods.flow_gmm.FlowGMMClassifier"
# Operations of an encoder per text of 64 word pieces or per image, and the side in pixels of these
# images.
ENCODERS = {
    "bert-base-uncased": (1.1e10, None),
    "mpnet": (1.1e10, None),
    "minilm": (1.4e9, None),
    "efficientnet_b4": (9e9, 380),
    "efficientnet_lite0": (8e8, 224),
}
# Rate against that of large float32 products: bf16 products of text encoders gain more than is lost
# to their size, convolutions do not. From 100 texts (minilm) and 70 images (efficientnet_lite0) per
# second and thread on a machine of about 95 Gflop/s.
TEXT_SHARE, IMAGE_SHARE = 1.2, 0.55


@dataclass(frozen=True)
class Work:
    """Amount of work of a job.

    Attributes:
        products: Operations in products of matrices, or others that take as long.
        calls: Number of small operations, whose time is the call.
        parameters: Numbers in the models that it writes.
    """

    products: float
    calls: float = 0.0
    parameters: int = 0


@dataclass(frozen=True)
class Machine:
    """Speed of a machine.

    Attributes:
        rate: Operations per second in float32 products, on one thread of a CPU or on a GPU.
        call_s: Seconds of a small operation.
        start_s: Seconds until a job has started: Python and its imports.
        notes: Measured and assumed values, as sentences.
    """

    rate: float
    call_s: float
    start_s: float
    notes: tuple[str, ...]

    def seconds(self, work: Work | None, threads: int = 1, gpu: "Machine | None" = None) -> float:
        """Time of a job with this work (None: not known) on threads of the CPU or on a GPU."""
        if work is None:
            return self.start_s
        rate = self.rate * threads if gpu is None else gpu.rate
        return self.start_s + work.products / rate + work.calls * (gpu or self).call_s


# One GPU of the A100's class, in float32 with small batches; kernels follow each other as on an
# H200 (benchmarks/README.md).
ASSUMED_GPU = Machine(
    1e13, 2e-7, 0.0, ("no GPU here to measure: 10 Tflop/s and 0.2 us a call are assumed",)
)


def measure(device: str = "cpu", seconds: float = 0.5) -> Machine:
    """Measure products, calls and start of Python on this machine, on one thread.

    Arguments:
        device: `cpu` or `cuda`.
        seconds: Duration of each measurement.
    """
    import torch

    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, sklearn.linear_model"], check=True)
    start_s = time.perf_counter() - start
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a, x = torch.randn(512, 512, device=device), torch.zeros(8, device=device)

    def per_call(function: Any) -> float:
        function()
        begin, calls = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            for _ in range(20):
                function()
            if device != "cpu":
                torch.cuda.synchronize()
            calls += 20
        return (time.perf_counter() - begin) / calls

    rate = 2 * 512**3 / per_call(lambda: a @ a)
    call_s = per_call(lambda: x.add_(1))
    if device != "cpu":  # steps are recorded (flowgmm/training/cuda_graph.py)
        graph, n_kernels = torch.cuda.CUDAGraph(), 500
        with torch.cuda.graph(graph):
            for _ in range(n_kernels):
                x.add_(1)
        call_s = per_call(graph.replay) / n_kernels * KERNELS_PER_LAYER / CALLS_PER_LAYER
    torch.set_num_threads(threads)
    where = "one thread" if device == "cpu" else torch.cuda.get_device_name()
    note = f"measured: {rate / 1e9:.0f} Gflop/s and {1e6 * call_s:.1f} us a call on {where}"
    return Machine(rate, call_s, start_s, (f"{note}, {start_s:.1f} s to start a job",))


def count(spec: Mapping[str, Any], size: Size | None) -> Work | None:
    """Work of a job with this spec: a training, an embedding, or data to be read.

    Arguments:
        spec: Spec that the rule passes to its script.
        size: Size of its data; None: not known.

    Returns:
        The work; None if it cannot be counted.
    """
    if size is None:
        return None
    if "estimator" in spec:
        if spec["estimator"] == FLOW_FOREST:
            return _flow_forest(spec, size)
        neural = spec["neural"] if "neural" in spec else "flowgmm.methods" in spec["estimator"]
        return _neural(spec, size) if neural else _classic(spec, size)
    rows = size.n_train + size.n_test
    if "encoder" in spec:
        per_item, native = _encoder(str(spec["encoder"]))
        side = spec.get("embedding", {}).get("resolution")
        share = (side / native) ** 2 if side and native else 1.0
        rate = IMAGE_SHARE if native else TEXT_SHARE
        return Work(rows * per_item * share / rate)
    if "loader" in spec:
        return Work(1e4 * rows * size.n_features)  # reading text
    return None


def _encoder(name: str) -> tuple[float, int | None]:
    """Entry of an encoder in `ENCODERS`; BERT's for an unknown one."""
    return next((v for k, v in ENCODERS.items() if k in name), ENCODERS["bert-base-uncased"])


def _n_seeds(spec: Mapping[str, Any]) -> int:
    return len(spec.get("seeds") or [0])


def _neural(spec: Mapping[str, Any], size: Size) -> Work:
    """Work of training a neural network; a backward pass takes twice as long as a forward pass."""
    params = {**spec["params"], "preprocess": spec.get("preprocess", "none")}
    training = params.get("training", {})
    if training.get("unlabelled_batch") == "n_labels":
        params["training"] = {**training, "unlabelled_batch": size.n_labelled}
    estimator = _made(spec["estimator"], params, shape=size.shape or (size.n_features,))
    shape = size.shape
    if shape:  # training parameters do not change the network, which takes a second to build
        params = {key: value for key, value in params.items() if key not in NO_SHAPE}
    else:
        shape = (min(size.n_features, params.get("pca_components") or size.n_features),)
    text = json.dumps(params, sort_keys=True)
    forward, parameters, n_layers = _network(spec["estimator"], text, shape, size.n_classes)
    n_unlabelled = size.n_unlabelled if estimator._uses_unlabelled() else 0
    batch = min(estimator.training_.unlabelled_batch, n_unlabelled)
    labelled = min(estimator.training_.labelled_batch or size.n_labelled, size.n_labelled)
    epoch = -(-n_unlabelled // batch) if batch else -(-size.n_labelled // max(labelled, 1))
    n_steps = estimator._training(epoch).n_steps
    of_labelled, of_unlabelled = estimator._passes()
    passes = max(of_labelled, of_unlabelled)
    stack = _n_seeds(spec) * getattr(estimator, "n_init", 1)
    points = of_labelled * labelled + of_unlabelled * batch
    a_step = forward * points + 2 * parameters * UPDATE_POINTS * passes
    trained = a_step * stack * n_steps
    if 0 in spec.get("seeds", [0]):  # other jobs find what it has trained
        trained += estimator._operations_before(size.shape, size.n_train)
    evaluated = forward * (size.n_test + size.n_val + n_unlabelled) * _n_seeds(spec)
    calls = CALLS_PER_LAYER * n_layers * passes / 3 * n_steps
    return Work(OVERHEAD * (trained + evaluated), calls, parameters * _n_seeds(spec))


def _flow_forest(spec: Mapping[str, Any], size: Size) -> Work:
    """Work of FlowGMM's trainings seed by seed, once and for five folds that train as one stack."""
    flow = {**spec, "estimator": FLOW_GMM, "seeds": [0]}
    once, folds = _neural(flow, size), _neural({**flow, "seeds": list(range(5))}, size)
    n = _n_seeds(spec)
    return Work(n * (once.products + folds.products), n * (once.calls + folds.calls))


def _made(estimator: str, params: Mapping[str, Any], shape: tuple[int, ...]) -> Any:
    """Estimator with the parts that it uses for points of a shape."""
    import numpy as np

    from flowgmm.methods import build

    made = build(estimator, params)
    for name, part in made._choose_parts(np.zeros((1, *shape), np.uint8), 1, 2).items():
        setattr(made, name, part)
    return made


@functools.cache
def _network(
    estimator: str, params: str, shape: tuple[int, ...], n_classes: int
) -> tuple[int, int, int]:
    """Operations of a forward pass per point, parameters and layers of an estimator's network.

    Arguments:
        estimator: Import path.
        params: Its parameters, JSON.
        shape: Of a point: (D,), or (C, H, W) of an image.
        n_classes: Number of classes.
    """
    import numpy as np

    from flowgmm.flows.pixels import Pixels
    from flowgmm.flows.preprocessing import Preprocess

    made, point = _made(estimator, json.loads(params), shape), np.zeros((1, *shape), np.uint8)
    pool = getattr(getattr(made, "flow_", made), "pool", 1)
    pixels = Pixels.fit(point, pool) if len(shape) == 3 else None
    network = made._empty(pixels or Preprocess.fit(point, "none"), n_classes)
    parameters = [p for p in network.parameters() if p.requires_grad]
    n_layers = sum(p.ndim >= 3 and p.shape[1] > 1 for p in parameters)
    n_parameters = sum(p.numel() for p in parameters)
    # A dense layer uses each parameter once, a convolution at every position.
    forward = 2 * n_parameters if pixels is None else _operations(made, network, pixels.pooled)
    return forward, n_parameters, n_layers


def _operations(made: Any, network: Any, shape: tuple[int, ...]) -> int:
    """Operations of the forward pass of a network of images, counted while it runs."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        made._one_pass(network, shape)
    return int(counter.get_total_flops())


def _classic(spec: Mapping[str, Any], size: Size) -> Work:
    """Work of a classic method: all candidates of the grid, then the final fit and evaluation."""
    params = {"n_unlabelled": 10_000, **spec["params"]}
    grid = math.prod(len(values) for values in (spec.get("tune") or {}).values())
    candidate = params | (spec.get("tune_with") or {})
    tuned = grid * _fit(spec["estimator"], candidate, size, size.n_val) if spec.get("tune") else 0.0
    final = _fit(spec["estimator"], params, size, size.n_test + size.n_val)
    return Work(_n_seeds(spec) * (tuned + final))


def _fit(estimator: str, params: Mapping[str, Any], size: Size, n_new: int) -> float:
    """Operations of one fit and of `n_new` predictions."""
    d, k = size.n_features, size.n_classes
    points = size.n_labelled + size.n_unlabelled
    graph = size.n_labelled + min(params["n_unlabelled"], size.n_unlabelled)
    name = estimator.rpartition(".")[2]
    if name == "RBFLabelSpreading":
        solved = graph**3 / 3 if graph <= 12_000 else 200 * graph**2
        return SLOW * (graph * (graph + n_new) * (d + 10) + solved / 2)
    if name == "KNNLabelSpreading":
        return SLOW * graph * (graph + n_new) * (d + 10)
    if name == "self_training":
        # Ten rounds of some fifty iterations each.
        return SLOW * 500 * 4 * points * d * k
    if name == "LogisticRegression":
        return SLOW * 4 * d * k * (100 * size.n_labelled + n_new)
    if name == "KNeighborsClassifier":
        return SLOW * size.n_labelled * n_new * (d + 10)
    return SLOW * 100 * points * d
