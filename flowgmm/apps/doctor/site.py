"""Site part of the profile for Slurm: read it, and write it with everything else left as it is."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowgmm.experiments.yaml_io import read_yaml
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import write_text

__all__ = ["Site", "changes", "find_profile", "parse_site", "read_site", "write_site"]

ON_GPU = ("gres", "gpu")
COMMENTED = re.compile(r"^# *slurm-status-command:.*$", re.MULTILINE)


@dataclass(frozen=True)
class Site:
    """Settings of the profile that differ between clusters.

    Attributes:
        partition: Partition of jobs without a GPU; empty: the cluster's default.
        gpu_partition: Partition of jobs with one; None: no job asks for a GPU.
        cores, mem_mb, runtime: Most CPUs, MB and minutes of one job; None: not bounded.
        status_command: Program that tells a job's state; None: sacct.
        account: Account that pays; None: the user's default.
        requeue: True if pre-empted jobs are put back into the queue.
    """

    partition: str
    gpu_partition: str | None
    cores: int | None
    mem_mb: int | None
    runtime: int | None
    status_command: str | None = None
    account: str | None = None
    requeue: bool = True


def find_profile(name: str) -> Path:
    """Find a profile's file where Snakemake looks for it: here, then the user's, then the site's.

    Arguments:
        name: Name or folder, as of ``snakemake --profile``.

    Raises:
        UserError: If it is not found.
    """
    from snakemake.cli import get_profile_dir

    found = get_profile_dir(name)
    if found is None:
        raise UserError(
            f"no profile {name!r} here or in the user's or the site's folder of Snakemake; run in "
            "the repository, or give its folder: --profile"
        )
    return Path(found[1])


def read_site(path: Path) -> Site:
    """Read the site part of a profile.

    Raises:
        UserError: If the file is missing or is no profile.
    """
    return parse_site(read_yaml(path), str(path))


def parse_site(profile: Any, where: str) -> Site:
    """Parse the site part of a profile's values; `where` is named in an error.

    Raises:
        UserError: If the values are no profile.
    """
    if not isinstance(profile, Mapping):
        raise UserError(f"{where}: expected keys and values, got {profile!r:.40}; restore the file")
    default = _pairs(profile, "default-resources", where)
    limits = _pairs(profile, "resources", where)
    on_gpu = _gpu_rules(profile)
    gpu = [rule.get("slurm_partition", default.get("slurm_partition", "")) for rule in on_gpu]
    return Site(
        partition=_unquoted(default.get("slurm_partition", "")),
        gpu_partition=_unquoted(gpu[0]) if gpu else None,
        cores=_number(profile.get("cores"), "cores", where),
        mem_mb=_number(limits.get("mem_mb"), "resources: mem_mb", where),
        runtime=_number(limits.get("runtime"), "resources: runtime", where),
        status_command=profile.get("slurm-status-command"),
        account=_unquoted(default["slurm_account"]) if "slurm_account" in default else None,
        requeue=bool(profile.get("slurm-requeue")),
    )


def _gpu_rules(profile: Mapping[str, Any]) -> list[Any]:
    """Settings of the rules that ask for a GPU."""
    rules = profile.get("set-resources") or {}
    values = rules.values() if isinstance(rules, Mapping) else []
    return [rule for rule in values if isinstance(rule, Mapping) and {*ON_GPU} & {*rule}]


def _pairs(profile: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """Values below a key: a mapping, or a list of ``name=value``."""
    value = profile.get(key) or {}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list) and all("=" in str(item) for item in value):
        return dict(str(item).split("=", 1) for item in value)
    raise UserError(f"{where}: {key}: expected name=value, got {value!r:.60}; see docs/cluster.md")


def _number(value: Any, key: str, where: str) -> int | None:
    if value is None or value == "all":
        return None
    if not str(value).isdigit():
        raise UserError(f"{where}: {key}: expected a number, got {value!r}; see docs/cluster.md")
    return int(value)


def _unquoted(value: Any) -> str:
    """Text as Snakemake takes it, which evaluates quotes inside quotes."""
    return str(value).strip("'\"")


def changes(old: Site, new: Site) -> list[str]:
    """Settings in which two site parts differ, as ``key: old -> new``."""
    keys = {
        "partition": "default-resources: slurm_partition",
        "gpu_partition": "set-resources: slurm_partition",
        "cores": "cores",
        "mem_mb": "resources: mem_mb",
        "runtime": "resources: runtime",
        "status_command": "slurm-status-command",
    }
    return [
        f"{key}: {_shown(getattr(old, name))} -> {_shown(getattr(new, name))}"
        for name, key in keys.items()
        if getattr(old, name) != getattr(new, name)
    ]


def _shown(value: Any) -> str:
    return "none" if value in (None, "") else str(value)


def write_site(path: Path, site: Site) -> None:
    """Write the site part of a profile; comments and all other keys stay.

    Raises:
        UserError: If the file cannot be written.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = path.read_text(encoding="utf-8")
    if site.status_command is not None:  # where the profile has the key as a comment
        text = COMMENTED.sub(f"slurm-status-command: {site.status_command}", text, count=1)
    profile = yaml.load(text)
    old = parse_site(profile, str(path))
    if site.partition != old.partition:
        _set_pair(profile, "default-resources", "slurm_partition", site.partition)
    if site.gpu_partition != old.gpu_partition:
        for rule in _gpu_rules(profile):
            rule["slurm_partition"] = site.gpu_partition or site.partition
            if site.gpu_partition is None:
                for key in ON_GPU:
                    rule.pop(key, None)
    if site.cores != old.cores:
        profile["cores"] = site.cores
    for key in ("mem_mb", "runtime"):
        if getattr(site, key) != getattr(old, key):
            _set_pair(profile, "resources", key, getattr(site, key))
    if site.status_command != old.status_command:
        profile["slurm-status-command"] = site.status_command
    written = io.StringIO()
    yaml.dump(profile, written)
    write_text(path.resolve(), written.getvalue())


def _set_pair(profile: Any, key: str, name: str, value: Any) -> None:
    """Set a value below a key: in a mapping, or in a list of ``name=value``."""
    block = profile.setdefault(key, {})
    if isinstance(block, Mapping):
        block[name] = value  # type: ignore[index]
        return
    for i, item in enumerate(block):
        if str(item).split("=", 1)[0] == name:
            block[i] = f"{name}={value}"
            return
    block.append(f"{name}={value}")
