"""Partitions of a cluster as scontrol prints them, and requests that none can hold."""

import pytest

from flowgmm.experiments.slurm import Request, ask_slurm, minutes_of, parse_partitions, refusal
from flowgmm.utils.errors import UserError

PARTITIONS = """\
PartitionName=short AllowAccounts=ALL Default=YES MaxTime=04:00:00 Nodes=n[1-2] State=UP \
MaxCPUsPerNode=UNLIMITED DefMemPerCPU=512 MaxMemPerNode=UNLIMITED
PartitionName=long Default=NO MaxTime=UNLIMITED Nodes=n1 State=UP MaxMemPerNode=30000
PartitionName=a100 Default=NO MaxTime=2-00:00:00 Nodes=g1 State=DOWN MaxMemPerCPU=1000
PartitionName=empty Default=NO MaxTime=1-00:00:00 Nodes=(null) State=UP
"""
NODES = """\
NodeName=n1 CPUEfctv=30 CPUTot=32 Gres=(null) OS=Linux 6.1 #1 SMP RealMemory=128000 \
MemSpecLimit=8000 State=IDLE Partitions=short,long Comment=State=DOWN
NodeName=n2 CPUTot=8 Gres= RealMemory=512000 State=MIXED+DRAIN Partitions=short
NodeName=g1 CPUTot=16 Gres=gpu:a100:4(S:0-1),nvme:1 RealMemory=256000 State=IDLE* Partitions=a100
"""
CLUSTER = parse_partitions(PARTITIONS, NODES)


def test_partitions_are_parsed() -> None:
    assert list(CLUSTER) == ["short", "long", "a100", "empty"]
    assert [CLUSTER[name].minutes for name in CLUSTER] == [240, None, 2880, 1440]
    assert [p.name for p in CLUSTER.values() if p.is_default] == ["short"]
    assert [p.name for p in CLUSTER.values() if not p.is_up] == ["a100"]
    n1, n2 = CLUSTER["short"].nodes
    assert (n1.cpus, n1.mb, n1.gpus, n1.is_up) == (30, 120_000, 0, True)
    assert (n2.cpus, n2.mb, n2.is_up) == (8, 512_000, False)
    assert CLUSTER["long"].most("mb") == 30_000  # the partition's limit
    (g1,) = CLUSTER["a100"].nodes
    assert (g1.cpus, g1.mb, g1.gpus, g1.is_up) == (16, 16_000, 4, False)
    assert CLUSTER["empty"].nodes == ()


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [
        *[("UNLIMITED", None), ("INFINITE", None), ("NONE", None), ("n/a", None)],
        *[("7-00:00:00", 10_080), ("00:05:00", 5), ("12:00:00", 720), ("90", 90), ("1-6:30", 1830)],
    ],
)
def test_time_limits_are_parsed(limit: str, minutes: int | None) -> None:
    assert minutes_of(limit) == minutes


@pytest.mark.parametrize(
    "request_",
    [
        Request("job", "short", cpus=30, mb=120_000, minutes=240),
        Request("job", "short", cpus=8, mb=512_000),
        Request("job", "", mb=500_000, minutes=1),
        Request("job", "long", mb=30_000, minutes=100_000),
        Request("job", "short,long", minutes=241),  # one of them holds it
        Request("job", "a100", cpus=16, mb=16_000, gpus=4, minutes=2880),  # down, not too small
    ],
)
def test_a_request_that_a_partition_holds_is_not_refused(request_: Request) -> None:
    assert refusal(request_, CLUSTER) is None


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (
            Request("train_stack", "short", minutes=241),
            "train_stack asks for 241 minutes, the limit of partition short is 240: set "
            "runtime in `resources` to 240",
        ),
        (
            Request("train_stack", "short", mb=512_001),
            "train_stack asks for 512001 MB, a node of partition short has at most 512000: set "
            "mem_mb in `resources` to 512000",
        ),
        (
            Request("train_stack", "", cpus=31),
            "train_stack asks for 31 CPUs, a node of partition short has at most 30: set `cores` "
            "to 30",
        ),
        (
            Request("train_stack", "long", gpus=1),
            "train_stack asks for 1 GPUs, a node of partition long has none: set gres in "
            "`set-resources`",
        ),
        (
            Request("train_stack", "short", cpus=9, mb=120_001),
            "train_stack asks for 9 CPUs, 120001 MB and 0 GPUs, which no single node of partition "
            "short has: set `cores`, or mem_mb in `resources`, to less",
        ),
        (
            Request("train_stack", "gpu"),
            "train_stack: the cluster has no partition 'gpu': set slurm_partition to one of "
            "short, long, a100, empty",
        ),
        (Request("split", "long,a100", mb=31_000), "split asks for 31000 MB"),
        (
            Request("split", "empty", mb=1),
            "split: partition empty has no nodes: set slurm_partition",
        ),
    ],
)
def test_a_request_that_no_partition_holds_is_refused(request_: Request, says: str) -> None:
    assert says in str(refusal(request_, CLUSTER))


def test_a_cluster_without_a_default_partition_needs_a_name() -> None:
    partitions = {name: CLUSTER[name] for name in ("long", "a100")}
    assert "set slurm_partition to one of long, a100" in str(refusal(Request("a", ""), partitions))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("no-such-scontrol", "show"), "no Slurm here (no-such-scontrol is missing); run this on"),
        (("sh", "-c", "echo 'Unable to contact' >&2; exit 1"), "failed: Unable to contact"),
    ],
)
def test_slurm_that_does_not_answer_is_named(command: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError) as caught:
        ask_slurm(*command)
    assert says in str(caught.value)
