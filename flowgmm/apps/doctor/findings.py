"""Findings: a profile beside the facts of a cluster. Nothing here asks a program."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from flowgmm.apps.doctor.site import Site, changes
from flowgmm.experiments.slurm import Partition

__all__ = ["Cluster", "Finding", "NodeReport", "examine", "parse_config", "recommend"]

# Seconds for which a finished job must stay in squeue, where Snakemake asks it: between two looks.
LEAST_JOB_AGE_S = 200


@dataclass(frozen=True)
class Cluster:
    """Facts of a cluster.

    Attributes:
        partitions: By name.
        config: Slurm's configuration.
        has_accounting: True if sacct answers.
        accounts: Accounts of the user; empty where nothing is known of them.
    """

    partitions: Mapping[str, Partition]
    config: Mapping[str, str]
    has_accounting: bool
    accounts: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeReport:
    """Environment on a node of a partition.

    Attributes:
        partition: Its name.
        failure: Reason why nothing is known of it; None: the rest holds.
        versions: Of Python and torch, for people.
        gpu: Name of the GPU that torch sees; None: none.
        sees_lock: True if it is kept out by a lock that this machine holds.
        wants_gpu: True if the job asked for a GPU.
    """

    partition: str
    failure: str | None = None
    versions: str = ""
    gpu: str | None = None
    sees_lock: bool = True
    wants_gpu: bool = False


@dataclass(frozen=True)
class Finding:
    """Finding: `mark` is ``ok``, ``note``, ``set`` (in the profile) or ``mend`` (elsewhere)."""

    mark: str
    text: str


def parse_config(text: str) -> dict[str, str]:
    """Parse the output of ``scontrol show config``: one key and value a line."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def recommend(site: Site, cluster: Cluster) -> Site:
    """Site part that suits a cluster and keeps of the present one all that does.

    Arguments:
        site: The profile's site part.
        cluster: Facts of the cluster.
    """
    partitions = cluster.partitions
    cpu = site.partition
    if not _has_nodes(partitions, cpu):
        cpu = _best(partitions, "cpus") or cpu
    gpu = site.gpu_partition
    if gpu is not None and not (gpu in partitions and partitions[gpu].most("gpus")):
        gpu = _best(partitions, "gpus")
    cores, mem_mb, runtime = site.cores, site.mem_mb, site.runtime
    for partition in _named(partitions, cpu, gpu):
        on_gpu = partition.name == gpu
        nodes = [node for node in partition.nodes if node.gpus or not on_gpu]
        if not nodes:
            continue
        # The node with the CPUs that are wanted, or the most; of these, the one with most memory.
        wanted = cores or max(node.cpus for node in nodes)
        node = max(nodes, key=lambda node: (min(node.cpus, wanted), node.mb))
        cores = min(wanted, node.cpus)
        mem_mb = min(mem_mb or node.mb, node.mb)
        if partition.minutes is not None:
            runtime = min(runtime or partition.minutes, partition.minutes)
    status = site.status_command if cluster.has_accounting else "squeue"
    return replace(
        site,
        partition=cpu,
        gpu_partition=gpu,
        cores=cores,
        mem_mb=mem_mb,
        runtime=runtime,
        status_command=status,
    )


def _named(partitions: Mapping[str, Partition], cpu: str, gpu: str | None) -> list[Partition]:
    """Partitions that a profile uses."""
    names = dict.fromkeys([*cpu.split(","), *(gpu or "").split(",")])
    found = [partitions[name] for name in names if name in partitions]
    return found or [p for p in partitions.values() if p.is_default]


def _has_nodes(partitions: Mapping[str, Partition], name: str) -> bool:
    names = [part for part in name.split(",") if part]
    default = [partition.name for partition in partitions.values() if partition.is_default]
    chosen = names or default
    return bool(chosen) and all(n in partitions and partitions[n].nodes for n in chosen)


def _best(partitions: Mapping[str, Partition], resource: str) -> str | None:
    """Partition for jobs that need a resource: the default one, else that with the most of it."""

    def key(partition: Partition) -> tuple[bool, bool, int]:
        total = sum(getattr(node, resource) for node in partition.nodes if node.is_up)
        return partition.is_up, partition.is_default, total

    able = [partition for partition in partitions.values() if partition.most(resource)]
    return max(able, key=key).name if able else None


def examine(site: Site, cluster: Cluster, nodes: Sequence[NodeReport]) -> list[Finding]:
    """Compare a profile with a cluster.

    Arguments:
        site: The profile's site part.
        cluster: Facts of the cluster.
        nodes: Environment on nodes; empty: not looked at.
    """
    wanted = recommend(site, cluster)
    differing = changes(site, wanted)
    found = [Finding("set", text) for text in differing] or [
        Finding("ok", f"profile: {_limits(site)}")
    ]
    return [
        *found,
        *_partition_findings(wanted, cluster),
        *_accounting_findings(wanted, cluster),
        *(finding for node in nodes for finding in _node_findings(node)),
    ]


def _limits(site: Site) -> str:
    names = " and ".join(name for name in (site.partition, site.gpu_partition) if name)
    return (
        f"partition {names or 'by default'}; a job asks for at most {site.cores or 'any'} CPUs, "
        f"{site.mem_mb or 'any'} MB, {site.runtime or 'any'} minutes"
    )


def _partition_findings(site: Site, cluster: Cluster) -> Iterator[Finding]:
    for partition in _named(cluster.partitions, site.partition, site.gpu_partition):
        down = sum(not node.is_up for node in partition.nodes)
        if not partition.is_up:
            yield Finding("mend", f"partition {partition.name} takes no jobs now")
        elif partition.nodes and down == len(partition.nodes):
            yield Finding("mend", f"partition {partition.name}: all {down} nodes are down")
        elif down:
            yield Finding("note", f"partition {partition.name}: {down} nodes are down")
    with_gpus = [p.name for p in cluster.partitions.values() if p.most("gpus")]
    if not with_gpus:
        yield Finding("note", "no GPUs: trainings run on CPUs")
    elif site.gpu_partition is None:
        names = ", ".join(with_gpus)
        yield Finding("note", f"GPUs in {names}, which no rule of `set-resources` asks for")


def _accounting_findings(site: Site, cluster: Cluster) -> Iterator[Finding]:
    config = cluster.config
    if cluster.has_accounting:
        yield Finding("ok", "accounting: sacct answers")
    else:
        age = int((re.match(r"\d+", config.get("MinJobAge", "")) or [LEAST_JOB_AGE_S])[0])
        text = f"no accounting: squeue is asked, which knows a finished job for {age} s"
        yield Finding("ok" if age >= LEAST_JOB_AGE_S else "mend", text)
    if cluster.accounts and site.account and site.account not in cluster.accounts:
        known = ", ".join(cluster.accounts)
        yield Finding("mend", f"slurm_account {site.account} is not one of yours: {known}")
    elif len(cluster.accounts) > 1 and not site.account:
        yield Finding("note", f"accounts {', '.join(cluster.accounts)}: your default one pays")
    if config.get("JobRequeue") == "0" and not site.requeue:
        text = "pre-empted jobs are not put back into the queue: slurm-requeue: true"
        yield Finding("mend", text)


def _node_findings(node: NodeReport) -> Iterator[Finding]:
    where = f"node of {node.partition}"
    if node.failure is not None:
        yield Finding("mend", f"{where}: {node.failure}")
        return
    yield Finding("ok", f"{where}: the environment is there ({node.versions})")
    if node.wants_gpu:
        seen = f"torch sees {node.gpu}" if node.gpu else "torch sees no GPU and would use CPUs"
        yield Finding("ok" if node.gpu else "note", f"{where}: {seen}")
    if node.sees_lock:
        yield Finding("ok", f"{where}: locks of this file system hold there")
    else:
        text = "locks of this file system do not hold there: mount it with locks (NFS: not nolock)"
        yield Finding("mend", f"{where}: {text}")
