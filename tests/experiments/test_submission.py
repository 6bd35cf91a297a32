"""Requests that are refused before anything is submitted, and jobs that are submitted once."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from flowgmm.experiments.slurm import Request, parse_partitions
from flowgmm.experiments.submission import check_requests, mistake_in, refused, words_of

CLUSTER = parse_partitions(
    "PartitionName=main Default=YES MaxTime=12:00:00\nPartitionName=cards MaxTime=06:00:00\n",
    "CPUTot=16 RealMemory=50000 Partitions=main\nCPUTot=8 RealMemory=30000 Gres=gpu:2 "
    "Partitions=cards\n",
)
SMALL = {"mem_mb": 30_000, "runtime": 360}


@pytest.mark.parametrize(
    ("requests", "limits"),
    [
        ([Request("a", "main", 4, 8000, 100)], {"mem_mb": 50_000, "runtime": 720}),
        ([Request("a", "", 16, 30_000, 360), Request("b", "cards", 8, 30_000, 360, 2)], SMALL),
        ([Request("a", "cards,main", 8, 40_000, 700)], {"mem_mb": 40_000, "runtime": 700}),
    ],
)
def test_what_fits_is_not_refused(requests: list[Request], limits: dict[str, int]) -> None:
    assert refused(requests, limits, CLUSTER) == []


@pytest.mark.parametrize(
    ("requests", "limits", "says"),
    [
        # The first requests fit, the repeated ones would not: the smaller partition decides.
        (
            [Request("a", "main", 1, 100, 1), Request("b", "cards", 1, 100, 1)],
            {"mem_mb": 64_000, "runtime": 1440},
            [
                "an attempt with all that the profile allows asks for 64000 MB, a node of "
                "partition cards has at most 30000: set mem_mb in `resources` to 30000",
                "an attempt with all that the profile allows asks for 1440 minutes, the limit of "
                "partition cards is 360: set runtime in `resources` to 360",
            ],
        ),
        # Many jobs, one reason.
        (
            [Request(f"group {i}", "main", 20 + i, 100, 1) for i in range(5)],
            SMALL,
            [
                "group 0 asks for 20 CPUs, a node of partition main has at most 16: set `cores` "
                "to 16"
            ],
        ),
        (
            [Request("a", "main", gpus=1), Request("b", "gpu")],
            SMALL,
            [
                "set slurm_partition to one of main, cards",
                "a asks for 1 GPUs, a node of partition main has none: set gres in `set-resources`",
            ],
        ),
        (
            [Request("a", "main")],
            {"mem_mb": None, "runtime": None},
            [
                "nothing bounds mem_mb of a job that is submitted again: set mem_mb in `resources`",
                "nothing bounds runtime of a job",
            ],
        ),
    ],
)
def test_what_does_not_fit_is_refused_once_for_each_key(
    requests: list[Request], limits: dict[str, int | None], says: list[str]
) -> None:
    found = refused(requests, limits, CLUSTER)
    assert len(found) == len(says)
    assert all(any(text in reason for reason in found) for text in says), found


def test_other_executors_are_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without scontrol
    check_requests(SimpleNamespace(executor_plugin=SimpleNamespace(name="local")))


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("step 1\nerror: n_labels is 5, expected 10\n", "error: n_labels is 5, expected 10"),
        ("error: only one line", "error: only one line"),
        (f"{'x' * 100_000}\nerror: after much else\n\n", "error: after much else"),
        ("error: in the middle\nstep 2 of 3\n", None),
        ("Traceback (most recent call last):\nValueError: error: inside\n", None),
        ("interrupted by SIGTERM: step 4 of 9 done\n", None),
        ("slurmstepd: error: Detected 1 oom-kill event\n", None),
        ("", None),
    ],
)
def test_a_log_that_ends_in_a_mistake_is_told_from_others(
    tmp_path: Path, text: str, mistake: str | None
) -> None:
    started = time.time() - 1
    other, log = tmp_path / "a.log", tmp_path / "b.log"
    other.write_text("all is well\n")
    log.write_text(text)
    assert mistake_in([other, tmp_path / "missing.log", log], started) == mistake
    os.utime(log, (started - 60, started - 60))
    assert mistake_in([other, log], started) is None  # of an earlier run of Snakemake


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "SLURM sbatch failed. The error message was 'sbatch: error: Invalid account\n"
            "sbatch: error: rejected'.\n    sbatch call:\n        sbatch --wrap=\"it's long\"\n",
            "sbatch: error: Invalid account sbatch: error: rejected",
        ),
        ("Job submission failed with exception: no account", "Job submission failed with"),
        ("", "it said nothing"),
    ],
)
def test_the_words_of_slurm_are_found(message: str, words: str) -> None:
    assert words_of(message).startswith(words)
    assert "sbatch call" not in words_of(message)
