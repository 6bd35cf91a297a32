"""Validate values: JSON schemas, names, parameters of estimators."""

import ast
import difflib
import functools
import importlib.util
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flowgmm.utils.errors import UserError

__all__ = ["check", "fits", "nearest", "parameters_of"]

SECRET_URL = re.compile(r"[a-z]://[^/\s]*@")


def nearest(value: str, known: Iterable[str], what: str, where: str) -> UserError:
    """Error for an unknown name, with the nearest known one.

    Arguments:
        value: Unknown name.
        known: Known names.
        what: Kind of thing that it should name, such as `dataset`.
        where: File and key that hold it.
    """
    names = [str(name) for name in known]
    close = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(names)}"
    return UserError(f"{where}: unknown {what} {value!r}; {hint}")


def check(value: Any, schema: Mapping[str, Any], where: str) -> None:
    """Validate against a JSON Schema.

    Raises:
        UserError: One line with the file, the path of the key, the value and the remedy.
    """
    import jsonschema

    _check_plain(value, where)
    errors = _validator()(schema).iter_errors(value)
    error = jsonschema.exceptions.best_match(errors)
    if error is None:
        return
    place = ".".join(str(part) for part in error.absolute_path)
    where = f"{where}: {place}" if place else where
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = error.schema.get("properties", {})
        for key in error.instance:
            if key not in known:
                raise nearest(str(key), known, "key", where)
    if error.validator == "enum":
        raise nearest(str(error.instance), map(str, error.validator_value), "value", where)
    raise UserError(f"{where}: {' '.join(error.message.split())}; see config/README.md")


def _check_plain(value: Any, where: str) -> None:
    """Refuse what JSON does not have (keys other than text, NaN, dates), and secrets.

    Raises:
        UserError: If one is found.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise UserError(f"{where}: key {key!r} is not text; quote it")
            _check_plain(inner, f"{where}: {key}")
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, where)
    elif not isinstance(value, str | int | float | None) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise UserError(
            f"{where}: {value!r} is neither text nor a finite number; quote or correct it"
        )
    elif isinstance(value, str) and SECRET_URL.search(value):
        raise UserError(
            f"{where}: a URL has a user name or password in it, which logs and records would show; "
            "leave it out and put it into ~/.netrc, which downloads read"
        )


@functools.cache
def _validator() -> Any:
    """Validator of JSON Schema, in which `$` does not match before a line end, as Python's does."""
    import jsonschema

    def pattern(validator: Any, wanted: str, value: Any, schema: Any) -> Iterator[Any]:
        wanted_whole = re.sub(r"\$$", r"\\Z", wanted)
        if validator.is_type(value, "string") and not re.search(wanted_whole, value):
            yield jsonschema.ValidationError(f"{value!r} does not match {wanted!r}")

    return jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": pattern})


@functools.cache
def parameters_of(estimator: str) -> dict[str, str] | None:
    """Parameters of a class's constructor or of a function, read from its source, not imported.

    Arguments:
        estimator: Import path.

    Returns:
        Type hint (empty if there is none) by name, or None if the class or function is not found.
    """
    module, _, name = estimator.rpartition(".")
    source = _source(module)
    if source is None:
        return None
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _arguments(node)
        if isinstance(node, ast.ClassDef) and node.name == name:
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                    return {k: v for k, v in _arguments(member).items() if k != "self"}
            bases = [b.id for b in node.bases if isinstance(b, ast.Name)]
            found = (parameters_of(f"{module}.{base}") for base in bases)
            return next((names for names in found if names is not None), {})
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    package = module if source.stem == "__init__" else module.rpartition(".")[0]
                    for _ in range(node.level - 1):
                        package = package.rpartition(".")[0]
                    origin = f"{package}.{node.module}" if node.level else node.module
                    return parameters_of(f"{origin}.{alias.name}")
    return None


def _arguments(function: ast.FunctionDef) -> dict[str, str]:
    arguments = function.args
    return {
        a.arg: ast.unparse(a.annotation) if a.annotation else ""
        for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    }


# Types that a value from a YAML file may have, by the type hint of the parameter.
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "None": (type(None),),
    "list": (list,),
}


def fits(value: Any, hint: str) -> bool:
    """Check a value against a type hint; hints beyond `_TYPES` accept any value."""
    kinds = [part.split("[")[0].strip() for part in hint.split("|")]
    if any(kind not in _TYPES for kind in kinds):
        return True
    if isinstance(value, bool):
        return "bool" in kinds
    return any(isinstance(value, _TYPES[kind]) for kind in kinds)


def _source(module: str) -> Path | None:
    """Source file of a module; only its top-level package is looked up, nothing is imported."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top) if top else None
    if spec is None or spec.origin is None:
        return None
    base = Path(spec.origin).parent.joinpath(*rest)
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)
