"""Paths of files below `results/`, relative to the working directory."""

from pathlib import Path

from flowgmm.experiments.project import AUTHORS, Job, Project, Run
from flowgmm.experiments.recipes import grid_candidates, is_surrogate

__all__ = [
    "ENCODERS",
    "analysis_path",
    "choice_path",
    "encoder_of",
    "features_id",
    "features_path",
    "is_embedded",
    "point_paths",
    "raw_folder",
    "run_file",
    "split_path",
]

# Kinds of datasets whose features come from an encoder, and the setting that names it.
ENCODERS = {"text": "text_encoder", "transfer": "image_encoder"}


def features_id(project: Project, dataset: str) -> str:
    """Name of the dataset's features file."""
    if is_surrogate(project, dataset):
        return f"{dataset}-surrogate"
    if project.dataset(dataset).kind in ENCODERS:
        return f"{dataset}-{Path(encoder_of(project, dataset)).name}"
    return dataset


def is_embedded(project: Project, dataset: str) -> bool:
    """True if the dataset's features come from an encoder that this project runs."""
    if project.dataset(dataset).kind not in ENCODERS or is_surrogate(project, dataset):
        return False
    return encoder_of(project, dataset) != AUTHORS


def encoder_of(project: Project, dataset: str) -> str:
    """The encoder of an embedded dataset."""
    return str(getattr(project.settings, ENCODERS[project.dataset(dataset).kind]))


def features_path(project: Project, dataset: str) -> str:
    """The dataset's features file."""
    return f"results/features/{features_id(project, dataset)}.safetensors"


def raw_folder(project: Project, dataset: str) -> str:
    """Folder of the dataset's raw files: its own, or that of the dataset named by `raw`."""
    return f"results/raw/{project.dataset(dataset).raw or dataset}"


def split_path(project: Project, dataset: str, labels: str, split: int) -> str:
    """A split's file."""
    return f"{project.results}/splits/{dataset}/{labels}/split-{split}.safetensors"


def run_file(project: Project, job: Job, name: str) -> str:
    """A file among a job's outputs."""
    return f"{project.results}/runs/{job.folder}/{name}"


def _tuning_file(project: Project, run: Run, name: str) -> str:
    return f"{project.results}/tuning/{run.dataset}/{run.labels}/{run.method}/{name}.json"


def point_paths(project: Project, run: Run) -> list[str]:
    """The candidates' files, in grid order."""
    return [_tuning_file(project, run, f"point-{name}") for name in grid_candidates(project, run)]


def choice_path(project: Project, run: Run) -> list[str]:
    """The file with what was chosen for a run; none for a run that needs none."""
    return [_tuning_file(project, run, "choice")] if grid_candidates(project, run) else []


def analysis_path(project: Project, name: str) -> str:
    """Result file of an analysis; its arrays lie beside it."""
    return f"{project.results}/analyses/{name}.json"
