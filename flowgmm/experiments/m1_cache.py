"""M1 of M1+M2, which sees no label: trained once for all label sets and seeds of a data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm.experiments.fitting import Execution
from flowgmm.experiments.job_cache import run_once
from flowgmm.experiments.record import identity
from flowgmm.methods import build

__all__ = ["provide_m1"]


def provide_m1(
    spec: Mapping[str, Any], X: np.ndarray, checkpoint: Path, execution: Execution
) -> None:
    """Put M1 beside the checkpoint of a job, if its method has one, for the training to find.

    The first job that needs it trains it, with a checkpoint of its own; others wait for it.

    Arguments:
        spec: Spec of the job.
        X: Images of the training part.
        checkpoint: Folder of the job's checkpoint; that of M1 lies beside it.
        execution: Device, threads and progress.
    """
    if not spec["neural"]:
        return
    estimator = build(spec["estimator"], {**spec["params"], "device": execution.device})
    if not hasattr(estimator, "fit_m1"):
        return
    import torch

    from flowgmm.methods.stack import digest

    torch.set_num_threads(execution.threads)
    own = {name: value for name, value in spec["params"].items() if name.startswith("m1_")}
    own["pool"] = spec["params"].get("pool")
    images, file = digest(X), checkpoint / "m1.safetensors"
    key = {"neural": True, "estimator": spec["estimator"], "code": spec["code"], "params": own}
    folder = checkpoint.parent / identity(key, {"images": images}, execution)

    def make() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        features = estimator.fit_m1(X, folder / "state", execution.progress)
        features.save(file, images)

    run_once(folder, [file], make)
