"""`flowgmm doctor`: compare the profile with the cluster, show it on one screen, write it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowgmm.apps.doctor.findings import Cluster, Finding, examine, recommend
from flowgmm.apps.doctor.programs import look_at_node, read_cluster
from flowgmm.apps.doctor.site import Site, changes, find_profile, read_site, write_site

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Diagnosis", "diagnose", "show"]

# Partitions that fit on a screen, beside the findings.
ROWS = 10


@dataclass(frozen=True)
class Diagnosis:
    """Diagnosis of a profile: its file, its site part, the cluster, and what was found."""

    profile: Path
    site: Site
    cluster: Cluster
    findings: Sequence[Finding]
    written: bool

    @property
    def is_healthy(self) -> bool:
        """True if nothing is left to set or to mend."""
        return not any(finding.mark in ("set", "mend") for finding in self.findings)


def diagnose(profile: str, write: bool = False, nodes: bool = True) -> Diagnosis:
    """Compare a profile with the cluster.

    Arguments:
        profile: Name or folder, as of ``snakemake --profile``.
        write: Write the settings that suit the cluster into the profile.
        nodes: Look at the environment on a node of each partition, with a short job.

    Raises:
        UserError: If there is no Slurm or no profile.
    """
    cluster, path = read_cluster(), find_profile(profile)
    site = read_site(path)
    wanted = recommend(site, cluster)
    written = write and bool(changes(site, wanted))
    if written:
        write_site(path, wanted)
        site = wanted
    reports = []
    if nodes:
        folder = Path("results") if Path("results").is_dir() else Path()
        reports = [look_at_node(wanted, wanted.partition, folder, None)]
        if wanted.gpu_partition is not None:
            reports.append(look_at_node(wanted, wanted.gpu_partition, folder, "gpu:1"))
    return Diagnosis(path, site, cluster, examine(site, cluster, reports), written)


def show(diagnosis: Diagnosis) -> None:
    """Print a diagnosis."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(_table(diagnosis))
    for finding in diagnosis.findings:
        console.print(f"{finding.mark:<5} {finding.text}", markup=False)
    if diagnosis.written:
        console.print(f"Written: {diagnosis.profile}", markup=False)
    elif any(finding.mark == "set" for finding in diagnosis.findings):
        console.print(
            f"To set it in {diagnosis.profile}: flowgmm doctor --write",
            markup=False,
        )


def _table(diagnosis: Diagnosis) -> "Table":
    """Table of the partitions; those that the profile names come first."""
    from rich import box
    from rich.table import Table

    site, partitions = diagnosis.site, diagnosis.cluster.partitions.values()
    used = {*site.partition.split(","), *(site.gpu_partition or "").split(",")}
    rows = sorted(partitions, key=lambda partition: partition.name not in used)
    table = Table(box=box.SIMPLE)
    for title in ("partition", "nodes", "CPUs", "MB", "GPUs", "time limit"):
        table.add_column(title, justify="left" if title == "partition" else "right")
    for partition in rows[:ROWS]:
        hours = "none" if partition.minutes is None else f"{partition.minutes / 60:g} h"
        counts = [str(partition.most(resource)) for resource in ("cpus", "mb", "gpus")]
        name = partition.name + ("*" if partition.is_default else "")
        table.add_row(name, str(len(partition.nodes)), *counts, hours)
    if len(rows) > ROWS:
        table.caption = f"and {len(rows) - ROWS} more"
    return table
