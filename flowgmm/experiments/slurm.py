"""Partitions of a Slurm cluster, and requests that one of them can hold."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flowgmm.utils.errors import UserError

__all__ = [
    "Node",
    "Partition",
    "Refusal",
    "Request",
    "ask_slurm",
    "gpus_of",
    "minutes_of",
    "parse_partitions",
    "read_partitions",
    "refusal",
]

# States of a node that takes no jobs until somebody mends it, as `scontrol show node` names them.
DOWN = {"DOWN", "DRAIN", "DRAINED", "DRAINING", "FAIL", "FAILING", "FUTURE", "NOT_RESPONDING"}
SECONDS_TO_ANSWER = 60


@dataclass(frozen=True)
class Node:
    """Most that a job can have of a node: CPUs, memory in MB, GPUs. `is_up`: it takes jobs."""

    cpus: int
    mb: int
    gpus: int
    is_up: bool = True


@dataclass(frozen=True)
class Partition:
    """Partition of a cluster.

    Attributes:
        name: Its name.
        is_default: True if jobs that name no partition go there.
        is_up: True if it takes jobs.
        minutes: Time limit; None: none.
        nodes: Its nodes.
    """

    name: str
    is_default: bool
    is_up: bool
    minutes: int | None
    nodes: tuple[Node, ...]

    def most(self, resource: str) -> int:
        """Largest `cpus`, `mb` or `gpus` of a node; 0 if there are no nodes."""
        return max((getattr(node, resource) for node in self.nodes), default=0)


@dataclass(frozen=True)
class Request:
    """Request of a job for a node; `partition` may be empty, or several names with commas."""

    what: str
    partition: str
    cpus: int = 1
    mb: int = 0
    minutes: int = 0
    gpus: int = 0


@dataclass(frozen=True)
class Refusal:
    """Refusal of a request.

    Attributes:
        reason: Why no partition can hold it.
        key: Key of the profile to change.
        most: Largest value that the partition holds; None where there is no such number.
    """

    reason: str
    key: str
    most: int | None = None

    def __str__(self) -> str:
        return f"{self.reason}: set {self.key}{'' if self.most is None else f' to {self.most}'}"


# Resources of a node: their names in messages, and the keys of the profile that bound a request.
RESOURCES = {
    "cpus": ("CPUs", "`cores`"),
    "mb": ("MB", "mem_mb in `resources`"),
    "gpus": ("GPUs", "gres in `set-resources`"),
}


def refusal(request: Request, partitions: Mapping[str, Partition]) -> Refusal | None:
    """Reason why no partition that a request names can hold it.

    Arguments:
        request: The request.
        partitions: Partitions of the cluster by name.

    Returns:
        What is asked for, what there is, and the key of the profile to change; None if a partition
        can hold the request.
    """
    key, known = "slurm_partition to one of " + ", ".join(partitions), partitions.values()
    names = [name for name in request.partition.split(",") if name]
    names = names or [partition.name for partition in known if partition.is_default]
    if not names:
        return Refusal(f"{request.what} names no partition, and none is the default", key)
    for name in names:
        if name not in partitions:
            return Refusal(f"{request.what}: the cluster has no partition {name!r}", key)
    found = [next(_lacks(request, partitions[name]), None) for name in names]
    return None if None in found else found[0]


def _lacks(request: Request, partition: Partition) -> Iterator[Refusal]:
    """Reasons why a partition cannot hold a request."""
    what, where = request.what, f"a node of partition {partition.name}"
    if not partition.nodes:
        yield Refusal(f"{what}: partition {partition.name} has no nodes", "slurm_partition")
    if partition.minutes is not None and request.minutes > partition.minutes:
        yield Refusal(
            f"{what} asks for {request.minutes} minutes, the limit of partition {partition.name} "
            f"is {partition.minutes}",
            "runtime in `resources`",
            partition.minutes,
        )
    for resource, (unit, key) in RESOURCES.items():
        asked, most = getattr(request, resource), partition.most(resource)
        if asked > most:
            has = f"at most {most}" if most else "none"
            yield Refusal(f"{what} asks for {asked} {unit}, {where} has {has}", key, most or None)
    if not any(
        all(getattr(request, resource) <= getattr(node, resource) for resource in RESOURCES)
        for node in partition.nodes
    ):
        yield Refusal(
            f"{what} asks for {request.cpus} CPUs, {request.mb} MB and {request.gpus} GPUs, which "
            f"no single node of partition {partition.name} has",
            "`cores`, or mem_mb in `resources`, to less",
        )


def parse_partitions(partitions: str, nodes: str) -> dict[str, Partition]:
    """Parse what Slurm says about its partitions.

    Arguments:
        partitions: Output of ``scontrol --oneliner show partition``.
        nodes: Output of ``scontrol --oneliner show node``.

    Returns:
        Partitions by name, in Slurm's order.
    """
    members = [_fields(line) for line in nodes.splitlines() if line.strip()]
    found = {}
    for line in partitions.splitlines():
        fields = _fields(line)
        if name := fields.get("PartitionName"):
            own = [node for node in members if name in node.get("Partitions", "").split(",")]
            found[name] = Partition(
                name,
                fields.get("Default") == "YES",
                fields.get("State", "UP") == "UP",
                minutes_of(fields.get("MaxTime", "UNLIMITED")),
                tuple(_node(node, fields) for node in own),
            )
    return found


def _fields(line: str) -> dict[str, str]:
    """Fields of a line of scontrol, the first of each name: a later one may be a comment's."""
    found: dict[str, str] = {}
    for key, value in re.findall(r"(\w+)=(\S*)", line):
        found.setdefault(key, value)
    return found


def _node(node: Mapping[str, str], partition: Mapping[str, str]) -> Node:
    """Node with what it keeps for itself and the partition's limits taken off."""
    cpus = int(node.get("CPUEfctv") or node["CPUTot"])
    mb = int(node["RealMemory"]) - int(node.get("MemSpecLimit", 0))
    if (limit := partition.get("MaxCPUsPerNode", "")).isdigit():
        cpus = min(cpus, int(limit))
    if (limit := partition.get("MaxMemPerNode", "")).isdigit():
        mb = min(mb, int(limit))
    # Slurm gives a job that asks for more memory per CPU more CPUs.
    if (limit := partition.get("MaxMemPerCPU", "")).isdigit():
        mb = min(mb, int(limit) * cpus)
    states = set(re.split(r"[+*]", node.get("State", "IDLE")))
    if "*" in node.get("State", ""):
        states.add("NOT_RESPONDING")
    return Node(cpus, mb, gpus_of(node.get("Gres", "")), not states & DOWN)


def gpus_of(gres: str) -> int:
    """Number of GPUs in a list of generic resources.

    >>> gpus_of("gpu:a100:4(S:0-1),gpu:1g.5gb:7,shard:8"), gpus_of("gpu"), gpus_of("(null)")
    (11, 1, 0)
    """
    entries = [entry.split(":") for entry in re.sub(r"\([^)]*\)", "", gres).split(",")]
    return sum(
        int(last) if (last := entry[-1]).isdigit() else 1 for entry in entries if entry[0] == "gpu"
    )


def minutes_of(limit: str) -> int | None:
    """Minutes of a time limit as Slurm writes it; None: no limit.

    >>> minutes_of("1-12:00:00"), minutes_of("00:30:00"), minutes_of("45:30"), minutes_of("2-06")
    (2160, 30, 45, 3240)
    """
    days, dash, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in [*parts, days or "0"]):
        return None  # UNLIMITED, INFINITE, NONE
    if dash:  # days-hours[:minutes[:seconds]]
        hours, minutes = (*map(int, parts), 0)[:2]
        return 1440 * int(days) + 60 * hours + minutes
    if len(parts) == 3:
        return 60 * int(parts[0]) + int(parts[1])
    return int(parts[0])


def read_partitions() -> dict[str, Partition]:
    """Ask Slurm for its partitions.

    Raises:
        UserError: If there is no Slurm, or it does not answer.
    """
    show = ("scontrol", "--oneliner", "show")
    return parse_partitions(ask_slurm(*show, "partition"), ask_slurm(*show, "node"))


def ask_slurm(*command: str) -> str:
    """Output of a program of Slurm.

    Raises:
        UserError: If it is missing, fails or does not answer; with Slurm's own words.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS_TO_ANSWER
        )
    except FileNotFoundError as error:
        raise UserError(
            f"no Slurm here ({command[0]} is missing); run this on a login node of the cluster, or "
            "Snakemake with --profile local"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"Slurm did not answer `{' '.join(command)}` within {SECONDS_TO_ANSWER} s; try again "
            "when its controller is less busy"
        ) from error
    if done.returncode:
        raise UserError(
            f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}; ask the "
            "cluster's support, or try again"
        )
    return done.stdout
