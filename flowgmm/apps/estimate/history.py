"""Finished jobs: counted work and measured time, from benchmark files and records."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from flowgmm.apps.estimate.cost_model import Work, count
from flowgmm.apps.estimate.sizes import data_size, recorded_size
from flowgmm.experiments.benchmark_files import read_benchmark
from flowgmm.experiments.project import Project
from flowgmm.utils.absence import reason_in
from flowgmm.utils.io import read_json, read_meta

__all__ = ["Finished", "finished_jobs"]


@dataclass(frozen=True)
class Finished:
    """Finished job, from its benchmark file and the metadata of its outputs.

    Attributes:
        benchmark: Path of that file.
        rule: Name of its rule.
        kind: Method, encoder or loader; empty if it has none.
        dataset: Its dataset; empty if it has none.
        work: Counted from its spec; None: not known.
        seconds: Wall time.
        threads: Cores that it took.
        gpu: Whether it used a GPU.
    """

    benchmark: str
    rule: str
    kind: str
    dataset: str
    work: Work | None
    seconds: float
    threads: int = 1
    gpu: bool = False

    @classmethod
    def of(cls, spec: Mapping[str, Any], **fields: Any) -> Self:
        """Job with the kind and the dataset that its spec names."""
        kind = next((str(spec[k]) for k in ("method", "encoder", "loader") if k in spec), "")
        return cls(kind=kind, dataset=str(spec.get("dataset", "")), **fields)


def finished_jobs(config: Project, has_gpu: bool = False) -> list[Finished]:
    """Read all benchmark files below `results/`, of any recipe.

    Arguments:
        config: Gives the size of a dataset where a record does not.
        has_gpu: Whether embeddings, which do not record their device, ran on a GPU.
    """
    results, found = config.root / "results", []
    for folder in sorted({*results.glob("benchmarks"), *results.glob("*/benchmarks")}):
        for path in sorted(folder.rglob("*.tsv")):
            measured = read_benchmark(path)
            if measured is None:
                continue
            rule, *stem = path.relative_to(folder).with_suffix("").parts
            made = _metadata(folder.parent, Path(*stem))
            if made is None:
                continue
            spec, where = made["spec"], made["environment"]
            size = recorded_size(made["data"]) or data_size(config, spec)
            gpu, threads = where.get("device", "cpu") != "cpu", where.get("threads", 1)
            if "encoder" in spec:
                gpu, threads = has_gpu, os.cpu_count() or 1
            job = Finished.of(
                spec,
                benchmark=path.relative_to(config.root).as_posix(),
                rule=rule,
                work=count(spec, size),
                seconds=measured.seconds,
                threads=threads,
                gpu=gpu,
            )
            found.append(job)
    return found


def _metadata(folder: Path, stem: Path) -> dict[str, Any] | None:
    """Metadata in the outputs of a job: ``spec``, ``data`` and ``environment``.

    None where there are reason files instead: such a job did nothing.
    """
    found: dict[str, Any] = {"spec": {}, "data": {}, "environment": {}}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        for path in (place / stem / "record.json", place / f"{stem}.json"):
            if reason_in(path) is not None:
                return None
            if path.is_file():
                content = read_json(path)
                return {key: content.get(key, empty) for key, empty in found.items()}
        if reason_in(place / f"{stem}.safetensors") is not None:
            return None
        if (place / f"{stem}.safetensors").is_file():
            return found | {"spec": read_meta(place / f"{stem}.safetensors").get("spec", {})}
    return found
