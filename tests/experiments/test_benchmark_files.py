"""Benchmark files of Snakemake: whole ones are read, those cut off are no measurement."""

from pathlib import Path

import pytest

from flowgmm.experiments.benchmark_files import read_benchmark

HEAD = "s\th:m:s\tmax_rss\tmax_vms\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HEAD}600.0\t0:10:00\t4000.0\t1\n", (600, 4000)),
        (f"{HEAD}1\t0:00:01\t5\t1\n2.5\t0:00:02\t7\t1\n", (2.5, 7)),  # the last try
        (f"{HEAD}0.2\t0:00:00\tNA\tNA\n", (0.2, None)),
        (f"{HEAD}0.2\t-\t-\t-\n", (0.2, None)),
        (f"{HEAD}12", None),
        (f"{HEAD}\t\t\t\n", None),
        (HEAD, None),
        ("h:m:s\tmax_rss\n0:00:01\t4\n", None),
        ("", None),
    ],
)
def test_read(tmp_path: Path, text: str, expected: tuple[float, float | None] | None) -> None:
    path = tmp_path / "job.tsv"
    path.write_text(text)
    assert read_benchmark(path) == expected
