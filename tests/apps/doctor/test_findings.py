"""`flowgmm doctor` on texts: a profile beside a cluster, what it says, what it writes."""

import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flowgmm.apps.doctor import doctor as module
from flowgmm.apps.doctor.findings import Cluster, NodeReport, examine, parse_config, recommend
from flowgmm.apps.doctor.probe import probe
from flowgmm.apps.doctor.site import Site, changes, parse_site, read_site, write_site
from flowgmm.cli import app
from flowgmm.experiments.slurm import parse_partitions
from flowgmm.utils.errors import UserError

PROFILE = Path(__file__).parents[3] / "workflow" / "profiles" / "slurm" / "config.yaml"
COMMITTED = read_site(PROFILE)
CONFIG = {"MinJobAge": "300 sec", "JobRequeue": "1"}


def partition(name: str, limit: str, default: bool = False, state: str = "UP") -> str:
    is_default = "YES" if default else "NO"
    return f"PartitionName={name} Default={is_default} MaxTime={limit} State={state}"


def node(partitions: str, cpus: int, mb: int, gres: str = "", state: str = "IDLE") -> str:
    return (
        f"NodeName=n CPUTot={cpus} RealMemory={mb} Gres={gres} State={state} "
        f"Partitions={partitions}"
    )


def cluster(partitions: list[str], nodes: list[str], accounting: bool = True) -> Cluster:
    found = parse_partitions("\n".join(partitions), "\n".join(nodes))
    return Cluster(found, CONFIG, accounting)


# As the profile has it: partitions cpu and gpu, at most 4 CPUs, 64,000 MB and a day.
LARGE = cluster(
    [partition("cpu", "7-00:00:00", default=True), partition("gpu", "1-00:00:00")],
    [node("cpu", 64, 256_000), node("gpu", 32, 128_000, "gpu:4")],
)
SMALL = cluster(
    [partition("cpu", "UNLIMITED", default=True), partition("gpu", "12:00:00")],
    [node("cpu", 2, 21_000), node("cpu,gpu", 8, 40_000, "gpu:1")],
    accounting=False,
)
RENAMED = cluster(
    [
        partition("debug", "00:30:00"),
        partition("main", "2-00:00:00", default=True),
        partition("v100", "2-00:00:00"),
        partition("a100", "2-00:00:00"),
    ],
    [
        node("debug,main", 48, 190_000),
        node("v100", 40, 380_000, "gpu:v100:2"),
        node("a100", 64, 500_000, "gpu:a100:8(S:0-1)"),
    ],
)
NO_GPUS = cluster([partition("cpu", "3-00:00:00", default=True)], [node("cpu", 16, 64_000)])


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (LARGE, []),
        (
            SMALL,
            [
                "resources: mem_mb: 64000 -> 40000",
                "resources: runtime: 1440 -> 720",
                "slurm-status-command: none -> squeue",
            ],
        ),
        (
            RENAMED,
            [
                "default-resources: slurm_partition: cpu -> main",
                "set-resources: slurm_partition: gpu -> a100",
            ],
        ),
        (NO_GPUS, ["set-resources: slurm_partition: gpu -> none"]),
    ],
    ids=["large", "small", "renamed", "no GPUs"],
)
def test_what_to_set_is_said_and_written(facts: Cluster, said: list[str], tmp_path: Path) -> None:
    wanted = recommend(COMMITTED, facts)
    assert changes(COMMITTED, wanted) == said
    path = Path(shutil.copy(PROFILE, tmp_path))
    write_site(path, wanted)
    assert read_site(path) == wanted
    assert recommend(wanted, facts) == wanted
    assert not [f for f in examine(wanted, facts, []) if f.mark == "set"]
    # Comments and the part that is not the site's stay as they are.
    before, after = PROFILE.read_text(), path.read_text()
    assert _comments(before) == _comments(after)
    mark = "# 2. What it need not."
    assert after.split(mark)[1].startswith(before.split(mark)[1].rstrip())


def _comments(text: str) -> list[str]:
    """Lines of comments; the one that becomes a setting where there is no accounting is none."""
    lines = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    return [line for line in lines if "slurm-status-command" not in line]


def test_without_gpus_no_rule_asks_for_one(tmp_path: Path) -> None:
    path = Path(shutil.copy(PROFILE, tmp_path))
    write_site(path, recommend(COMMITTED, NO_GPUS))
    rules = yaml.safe_load(path.read_text())["set-resources"]
    assert rules["train_stack"] == rules["embed_data"] == {"slurm_partition": "cpu"}


def test_a_profile_without_limits_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "executor: slurm\ndefault-resources:\n  - slurm_partition=cpu\n  - mem_mb=100\n"
    )
    site = read_site(path)
    assert (site.cores, site.mem_mb, site.runtime, site.gpu_partition) == (None, None, None, None)
    write_site(path, recommend(site, SMALL))
    written = yaml.safe_load(path.read_text())
    assert written["resources"] == {"mem_mb": 40_000}
    assert written["cores"] == 8
    assert written["default-resources"] == ["slurm_partition=cpu", "mem_mb=100"]


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ([1, 2], "expected keys and values"),
        ({"cores": "many"}, "cores: expected a number, got 'many'"),
        ({"resources": ["mem_mb=lots"]}, "resources: mem_mb: expected a number, got 'lots'"),
        ({"resources": [3]}, "resources: expected name=value"),
        ({"default-resources": "cpu"}, "default-resources: expected name=value"),
    ],
)
def test_a_file_that_is_no_profile_is_named(profile: object, says: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_site(profile, "slurm/config.yaml")
    assert str(caught.value).startswith("slurm/config.yaml: ") and says in str(caught.value)


@pytest.mark.parametrize(
    ("report", "mark", "says"),
    [
        (NodeReport("cpu", versions="Python 3.11"), "ok", "environment is there (Python 3.11)"),
        (NodeReport("cpu", "the environment was not reached: No such file"), "mend", "No such"),
        (NodeReport("cpu", sees_lock=False), "mend", "locks of this file system do not hold"),
        (NodeReport("gpu", gpu="NVIDIA A100", wants_gpu=True), "ok", "torch sees NVIDIA A100"),
        (NodeReport("gpu", wants_gpu=True), "note", "torch sees no GPU and would use CPUs"),
    ],
)
def test_a_node_is_judged(report: NodeReport, mark: str, says: str) -> None:
    found = [f for f in examine(COMMITTED, LARGE, [report]) if "node of" in f.text]
    assert any(f.mark == mark and says in f.text for f in found)
    if mark == "mend":
        assert not [f for f in found if f.mark == "ok" and says in f.text]


@pytest.mark.parametrize(
    ("facts", "site", "mark", "says"),
    [
        (
            Cluster(LARGE.partitions, {"MinJobAge": "30 sec"}, False),
            COMMITTED,
            "mend",
            "knows a finished job for 30 s",
        ),
        (
            Cluster(LARGE.partitions, {"JobRequeue": "0"}, True),
            Site("cpu", "gpu", 4, 1000, 10, requeue=False),
            "mend",
            "slurm-requeue: true",
        ),
        (
            Cluster(LARGE.partitions, CONFIG, True, ("bio", "physics")),
            Site("cpu", "gpu", 4, 1000, 10, account="chemistry"),
            "mend",
            "slurm_account chemistry is not one of yours: bio, physics",
        ),
        (Cluster(LARGE.partitions, CONFIG, True, ("a", "b")), COMMITTED, "note", "accounts a, b"),
        (
            cluster([partition("cpu", "1-0", True, "DOWN")], [node("cpu", 8, 90_000)]),
            COMMITTED,
            "mend",
            "partition cpu takes no jobs now",
        ),
        (
            cluster([partition("cpu", "1-0", True)], [node("cpu", 8, 90_000, state="DOWN*")]),
            COMMITTED,
            "mend",
            "all 1 nodes are down",
        ),
        (LARGE, Site("cpu", None, 4, 1000, 10), "note", "GPUs in gpu, which no rule"),
    ],
)
def test_the_cluster_is_judged(facts: Cluster, site: Site, mark: str, says: str) -> None:
    found = examine(site, facts, [])
    assert any(f.mark == mark and says in f.text for f in found), found


def test_the_configuration_is_parsed() -> None:
    text = "Configuration data as of 2026\nMinJobAge  = 300 sec\nSlurmctldHost[0] = a(b=c)\n"
    assert parse_config(text)["MinJobAge"] == "300 sec"
    assert parse_config(text)["SlurmctldHost[0]"] == "a(b=c)"


def test_a_probe_tells_a_lock_that_holds_from_none(tmp_path: Path) -> None:
    from filelock import FileLock

    path = tmp_path / "lock"
    assert probe(path)["sees_lock"] is False
    with FileLock(path):
        assert probe(path)["sees_lock"] is True


def test_the_command_shows_one_screen_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slurm").mkdir()
    shutil.copy(PROFILE, tmp_path / "slurm")
    monkeypatch.setattr(module, "read_cluster", lambda: SMALL)
    said = CliRunner().invoke(app, ["doctor", "--no-nodes"])
    assert said.exit_code == 1
    assert "set   resources: mem_mb: 64000 -> 40000" in said.stdout
    assert "flowgmm doctor --write" in said.stdout
    assert len(said.stdout.splitlines()) < 24
    said = CliRunner().invoke(app, ["doctor", "--no-nodes", "--write"])
    assert said.exit_code == 0, said.output
    assert "Written: slurm/config.yaml" in said.stdout
    assert read_site(tmp_path / "slurm" / "config.yaml").mem_mb == 40_000


def test_without_slurm_the_command_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = CliRunner().invoke(app, ["doctor"])
    assert said.exit_code == 2
    assert said.stderr.startswith("error: no Slurm here (scontrol is missing); run this on a login")
    assert len(said.stderr.splitlines()) == 1
