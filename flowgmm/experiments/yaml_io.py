"""Read and write YAML files of plain values."""

import re
from pathlib import Path
from typing import Any

import yaml

from flowgmm.utils.errors import UserError

__all__ = ["dump_yaml", "parse_yaml", "read_yaml"]

# With libyaml, which PyYAML's wheels have, ten times as fast; it is part of every planning.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):
    """Loader that refuses repeated keys, of which PyYAML silently drops the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                line = key_node.start_mark.line + 1
                raise yaml.constructor.ConstructorError(
                    problem=f"line {line}: key {key_node.value!r} is repeated; remove one"
                )
            seen.add(key_node.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


# YAML 1.1 reads 1e-3 as text, which an estimator would choke on; YAML 1.2 reads it as a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str) -> Any:
    """Parse YAML with plain values only.

    Raises:
        yaml.YAMLError: If the text is not YAML, or has a key twice.
    """
    # _Loader is a SafeLoader: it makes no objects.
    return yaml.load(text, Loader=_Loader)  # noqa: S506


def read_yaml(path: Path) -> Any:
    """Read a YAML file with plain values only.

    Raises:
        UserError: If the file is missing, is not YAML, or has a key twice.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; restore it, or run where config/ is") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error


class _Dumper(yaml.SafeDumper):
    """Dumper that quotes text which `_Loader` would read as something else."""


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

# Read-only settings, too.
_Dumper.add_multi_representer(dict, yaml.SafeDumper.represent_dict)
_Dumper.add_multi_representer(list, yaml.SafeDumper.represent_list)


def dump_yaml(value: Any) -> str:
    """YAML in the style of `config/`: keys in their order, short collections on one line."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=98,
    )
    return text
