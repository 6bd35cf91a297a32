"""Calls of Slurm's programs: the facts of a cluster, and a short job on a node."""

import getpass
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from flowgmm.apps.doctor.findings import Cluster, NodeReport, parse_config
from flowgmm.apps.doctor.site import Site
from flowgmm.experiments.slurm import ask_slurm, read_partitions
from flowgmm.utils.errors import UserError

__all__ = ["look_at_node", "read_cluster"]

# Seconds in which a node must be free, and minutes for the job there: Python and torch from a cold
# network file system take long.
FREE_WITHIN_S, JOB_MIN, JOB_MB = 60, 10, 2000


def read_cluster() -> Cluster:
    """Ask Slurm for the facts of the cluster.

    Raises:
        UserError: If there is no Slurm, or it does not answer.
    """
    partitions = read_partitions()
    config = parse_config(ask_slurm("scontrol", "show", "config"))
    return Cluster(
        partitions,
        config,
        has_accounting=_said("sacct", "--noheader", "--allocations", "--state=PD") is not None,
        accounts=_accounts(),
    )


def _accounts() -> tuple[str, ...]:
    """Accounts of this user; none where Slurm keeps none."""
    query = ("show", "assoc", f"user={getpass.getuser()}", "format=account")
    said = _said("sacctmgr", "--noheader", "--parsable2", *query)
    return tuple(dict.fromkeys((said or "").split()))


def _said(*command: str) -> str | None:
    """Output of a program; None if it fails, as those do that need accounting."""
    try:
        return ask_slurm(*command)
    except UserError:
        return None


def look_at_node(site: Site, partition: str, folder: Path, gres: str | None) -> NodeReport:
    """Run a short job on a node, while this process holds a lock.

    Arguments:
        site: The profile's site part.
        partition: Partition of the node.
        folder: Folder of results, on whose file system the locks must hold.
        gres: GPU to ask for; None: none.
    """
    from filelock import FileLock

    command = [
        *("srun", "--quiet", f"--immediate={FREE_WITHIN_S}", f"--time={JOB_MIN}", "--ntasks=1"),
        *(f"--mem={JOB_MB}", *([f"--partition={partition}"] if partition else [])),
        *([f"--gres={gres}"] if gres else []),
        *([f"--account={site.account}"] if site.account else []),
        *(sys.executable, "-m", "flowgmm.apps.doctor.probe"),
    ]
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as own:
        path = Path(own, "lock")
        with FileLock(path):
            done = subprocess.run(
                [*command, str(path.resolve())],
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
                env=_outside_jobs(os.environ),
            )
    return _report(partition or "the default partition", bool(gres), done)


def _outside_jobs(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment without the variables of a job that this may run in, which srun would obey."""
    return {key: value for key, value in environment.items() if not key.startswith("SLURM_")}


def _report(
    partition: str, wants_gpu: bool, done: "subprocess.CompletedProcess[str]"
) -> NodeReport:
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.strip()]
        reason = words[-1] if words else f"exit status {done.returncode}"
        return NodeReport(partition, f"the environment was not reached: {reason}")
    seen = json.loads(done.stdout.splitlines()[-1])
    return NodeReport(partition, None, wants_gpu=wants_gpu, **seen)
