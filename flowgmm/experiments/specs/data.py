"""Specs and inputs of the rules in `data.smk`: raw files, encoders, features."""

from pathlib import Path
from typing import Any

from flowgmm.experiments.entries import as_written
from flowgmm.experiments.paths import encoder_of, is_embedded, raw_folder
from flowgmm.experiments.project import AUTHORS, Project, Run, once
from flowgmm.experiments.recipes import is_surrogate, label_lists
from flowgmm.experiments.specs import rule_hash
from flowgmm.utils.absence import failures

__all__ = [
    "absent_reason",
    "download_paths",
    "encoder_files",
    "features_spec",
    "fetched_encoders",
    "made_files",
    "raw_files",
    "raw_inputs",
    "skip_reason",
    "wanted_file",
]


@once
def features_spec(project: Project, dataset: str) -> dict[str, Any]:
    """Spec of the rules `prepare_data` and `embed_data`."""
    from flowgmm.datasets.registry import LOADERS, dataset_spec

    surrogate = is_surrogate(project, dataset)
    entry = as_written(project.dataset(dataset))
    spec = dataset_spec(dataset, entry, project.mirror, surrogate)
    # Wherever they came from.
    spec["files"] = {
        name: {key: value for key, value in file.items() if key != "url"}
        for name, file in spec["files"].items()
    }
    if is_embedded(project, dataset):
        spec["encoder"] = encoder_of(project, dataset)
    script = "embed_data" if is_embedded(project, dataset) else "prepare_data"
    return spec | {"code": rule_hash(project, script, LOADERS[spec["loader"]].split(":")[0])}


def absent_reason(project: Project, dataset: str) -> str | None:
    """Reason for missing raw files of a dataset; None if available or not needed."""
    from flowgmm.datasets.download import absent

    if is_surrogate(project, dataset):
        return None
    entry = as_written(project.dataset(dataset))
    by_authors = entry["kind"] == "text" and project.settings.text_encoder == AUTHORS
    if by_authors and "authors" not in entry:
        return f"data absent: the paper's authors published no vectors of {dataset}"
    reason = absent(entry, project.mirror, project.settings.offline)
    if reason is None and project.settings.offline:
        missing = [f for f in encoder_files(project, dataset) if not Path(f).is_file()]
        return f"encoder absent: `offline` is set, and {missing[0]} not found" if missing else None
    return reason


def raw_files(project: Project, dataset: str) -> dict[str, dict[str, Any]]:
    """The dataset's files and label lists as `download_file` takes them, by path."""
    from flowgmm.datasets.download import resolve

    files = _files(project, dataset) | resolve(_lists(project, dataset), project.mirror)[0]
    return {f"{raw_folder(project, dataset)}/{name}": file for name, file in files.items()}


def _files(project: Project, dataset: str) -> dict[str, dict[str, Any]]:
    """Files that the dataset's features are made of, by name."""
    from flowgmm.datasets.registry import dataset_spec

    entry = as_written(project.dataset(dataset))
    return dict(dataset_spec(dataset, entry, project.mirror)["files"])


def _lists(project: Project, dataset: str) -> dict[str, Any]:
    """The dataset's label lists in the form of an entry's files."""
    return {"files": as_written(project.dataset(dataset).label_lists or {})}


def wanted_file(project: Project, path: str) -> dict[str, Any]:
    """Source and checksum of a raw file, of which a change brings the file anew.

    Failed downloads are counted in it: Snakemake tries again what failed. Another address of a file
    whose checksum is known brings nothing anew.
    """
    file = raw_files(project, Path(path).parent.name)[path]
    known = file.keys() & {"sha256", "md5"}
    kept = {key: value for key, value in file.items() if key != "url" or not known}
    return kept | {"failures": failures(path)}


def raw_inputs(project: Project, dataset: str) -> list[str]:
    """The raw files that the dataset's features are made of; none of generated data."""
    if is_surrogate(project, dataset):
        return []
    return [f"{raw_folder(project, dataset)}/{name}" for name in _files(project, dataset)]


def encoder_files(project: Project, dataset: str) -> list[str]:
    """The file that names an embedded dataset's fetched encoder; none if it is not fetched."""
    names = {encoder: name for name, encoder in fetched_encoders(project).items()}
    name = names.get(encoder_of(project, dataset)) if is_embedded(project, dataset) else None
    return [] if name is None else [f"results/raw/encoders/{name}.json"]


def fetched_encoders(project: Project) -> dict[str, str]:
    """Encoders that come over the network, by name of their files."""
    from flowgmm.embed.image import PAPER_IMAGE_ENCODER
    from flowgmm.embed.text import PACKAGED

    text, image = project.settings.text_encoder, project.settings.image_encoder
    here = Path(text).is_dir() or Path(text).is_absolute() or text.startswith(".")
    names = [] if here or text in PACKAGED or text == AUTHORS else [text]
    names += [image] if image == PAPER_IMAGE_ENCODER else []
    return {name.replace("/", "--"): name for name in names}


def download_paths(project: Project) -> list[str]:
    """Raw files, encoders' included, of all datasets that are not left out."""
    names = [
        name
        for name in project.datasets
        if name not in project.settings.skip and absent_reason(project, name) is None
    ]
    files = [f for n in names for f in (*raw_inputs(project, n), *encoder_files(project, n))]
    for name in names:
        for labels in project.dataset(name).labels:
            if _absent_lists(project, name, labels) is None:
                lists = label_lists(project, name, labels)
                files += [f"{raw_folder(project, name)}/{file}" for file in lists]
    return list(dict.fromkeys(files))


def made_files(project: Project) -> list[str]:
    """``dataset/file`` of the raw files that those rules make."""
    return [
        f"{dataset}/{name}"
        for dataset, entry in project.datasets.items()
        for name, file in (entry.files or {}).items()
        if "rules" in file and entry.raw is None
    ]


def skip_reason(project: Project, run: Run) -> str | None:
    """Reason not to make a run; None if it is made."""
    names = {run.dataset, run.method, f"{run.dataset}/{run.method}"}
    if skipped := names & set(project.settings.skip):
        return f"left out by `skip: [{sorted(skipped)[0]}]`"
    absent = absent_reason(project, run.dataset)
    return absent or _absent_lists(project, run.dataset, run.labels)


def _absent_lists(project: Project, dataset: str, labels: str) -> str | None:
    """Reason for missing lists of the labelled points; None if available or not needed."""
    from flowgmm.datasets.download import absent

    known = _lists(project, dataset)["files"]
    lists = {name: known[name] for name in label_lists(project, dataset, labels)}
    return absent({"files": lists}, project.mirror, project.settings.offline)
