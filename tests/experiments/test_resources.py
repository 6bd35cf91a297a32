"""Resources that jobs request on a cluster: those that similar finished jobs measured."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowgmm.experiments import resources
from flowgmm.experiments.resources import (
    AROUND_MB,
    LEAST_MB,
    LEAST_MIN,
    first,
    memory_like,
    time_like,
)

HEAD = "s\th:m:s\tmax_rss\tmax_vms\n"


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    resources._finished.cache_clear()
    yield
    resources._finished.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Benchmarks of a method: two measured, one too short for it, two cut off."""
    (tmp_path / "seeds-0-4.tsv").write_text(f"{HEAD}600.0\t0:10:00\t4000.0\t1\n")
    (tmp_path / "seeds-5-9.tsv").write_text(f"{HEAD}1200.0\t0:20:00\t2000.0\t1\n")
    (tmp_path / "seeds-10-14.tsv").write_text(f"{HEAD}0.2\t0:00:00\tNA\tNA\n")
    (tmp_path / "seeds-15-19.tsv").write_text(f"{HEAD}12")
    (tmp_path / "seeds-20-24.tsv").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "neighbours", "mb", "minutes"),
    [
        ("seeds-0-4", True, 1.5 * 4000 + AROUND_MB, 20),  # its own, not its neighbours'
        ("seeds-25-29", True, 1.5 * 4000 + AROUND_MB, 40),  # the most of each
        ("seeds-15-19", True, 1.5 * 4000 + AROUND_MB, 40),  # its own says nothing
        ("seeds-10-14", True, 8000, LEAST_MIN),  # its memory was not measured
        ("seeds-25-29", False, 8000, 240),  # nothing like it
    ],
)
@pytest.mark.parametrize("attempt", [1, 3])
def test_a_job_asks_for_what_was_measured_and_for_more_with_each_attempt(
    folder: Path, name: str, neighbours: bool, mb: int, minutes: int, attempt: int
) -> None:
    benchmark = str(folder / f"{name}.tsv")
    assert memory_like(benchmark, attempt, 8000, neighbours) == mb * attempt
    assert time_like(benchmark, attempt, 240, neighbours) == minutes * attempt


def test_a_small_job_asks_for_no_less_than_its_surroundings_need(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(f"{HEAD}3.0\t0:00:03\t100.0\t1\n")
    assert memory_like(str(tmp_path / "a.tsv"), 1, 8000, False) == LEAST_MB
    assert time_like(str(tmp_path / "a.tsv"), 1, 240, False) == LEAST_MIN
    assert memory_like(str(tmp_path / "absent" / "a.tsv"), 2, 8000, True) == 16_000


def test_every_file_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    real = Path.open

    def counting(path: Path, *arguments: object, **options: object) -> object:
        opened.append(path)
        return real(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", counting)
    for attempt in range(1, 200):
        memory_like(str(folder / f"seeds-{attempt}.tsv"), attempt, 8000, True)
        time_like(str(folder / f"seeds-{attempt}.tsv"), attempt, 240, True)
    assert len(opened) == len(set(opened)) == 5


@pytest.mark.parametrize(
    ("full", "least", "share", "asked"),
    [(8000, 2000, 0.0, 2000), (8000, 2000, 1.0, 8000), (240, 10, 0.5, 125), (240, 10, 0.001, 11)],
)
def test_a_first_request_lies_between_the_smallest_and_the_papers(
    full: int, least: int, share: float, asked: int
) -> None:
    assert first(full, least, share) == asked
