"""Estimators of all methods, and `build`, which makes one from its entry in a config."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from flowgmm.utils.errors import UserError

__all__ = ["PARTS", "SKLEARN_PREPROCESS", "build", "override"]

# Steps in front of a scikit-learn estimator; flows.preprocessing has those of a network.
SKLEARN_PREPROCESS = ("none", "unit_norm", "standardise")
PACKAGES = ("flowgmm.methods.", "sklearn.")
# Parameters that are parts (flowgmm.methods.parts, which imports scikit-learn).
PARTS = frozenset({"flow", "mixture", "objective", "training"})


def build(
    estimator: str,
    params: Mapping[str, Any],
    preprocess: str = "none",
    random_state: int | None = None,
) -> Any:
    """Make an unfitted estimator.

    Arguments:
        estimator: Import path of a class or of a function that returns an estimator, below
            ``flowgmm.methods.`` or ``sklearn.``.
        params: Its keyword arguments, without `random_state`; a mapping for a part is made one.
        preprocess: One of `SKLEARN_PREPROCESS`: unit_norm scales each row to length 1,
            standardise each column to mean 0 and variance 1 over all points passed to `fit`. An
            estimator with a parameter of that name gets it, unless `params` has it.
        random_state: Seed; passed on if the estimator accepts one.

    Returns:
        The estimator, or a Pipeline of two steps, ``preprocess`` and ``estimator``.

    Raises:
        UserError: If the path, a parameter or the preprocessing is unknown.
    """
    make = _find(estimator)
    accepted = list(inspect.signature(make).parameters)
    if "preprocess" in accepted:
        params, preprocess = {"preprocess": preprocess, **params}, "none"
    if preprocess not in SKLEARN_PREPROCESS:
        raise UserError(
            f"preprocess={preprocess!r} of {estimator} is unknown; use "
            f"{', '.join(SKLEARN_PREPROCESS)}"
        )
    if unknown := sorted(set(params) - set(accepted)):
        raise UserError(
            f"{estimator} has no parameter {', '.join(unknown)}; it has {', '.join(accepted)}"
        )
    if "random_state" in params:
        raise UserError(
            f"random_state={params['random_state']!r} among the parameters of {estimator} would "
            "hide the seed of the run; remove it"
        )
    seed = {"random_state": random_state} if "random_state" in accepted else {}
    if not PARTS.isdisjoint(accepted):
        from flowgmm.methods.parts import with_parts

        params = with_parts(params)
    model = make(**params, **seed)
    if preprocess == "none":
        return model

    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    step = Normalizer() if preprocess == "unit_norm" else StandardScaler()
    return Pipeline([("preprocess", step), ("estimator", model)])


def override(params: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lay changes over parameters; ``training__lr`` changes `lr` in the mapping `training`.

    Examples:
        >>> override({"training": {"lr": 0.1, "n_steps": 5}, "n_init": 1}, {"training__lr": 0.2})
        {'training': {'lr': 0.2, 'n_steps': 5}, 'n_init': 1}
    """
    changed = dict(params)
    for name, value in changes.items():
        part, _, inner = name.partition("__")
        if inner:
            changed[part] = {**changed.get(part, {}), inner: value}
        elif isinstance(value, Mapping) and isinstance(changed.get(name), Mapping):
            changed[name] = {**changed[name], **value}
        else:
            changed[name] = value
    return changed


def _find(path: str) -> Callable[..., Any]:
    """Class or function behind an import path."""
    module_name, _, name = path.rpartition(".")
    if not path.startswith(PACKAGES):
        raise UserError(
            f"estimator {path!r} is not below {' or '.join(PACKAGES)}; put a new method into "
            "flowgmm/methods/"
        )
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except ModuleNotFoundError as error:
        # A package that the module itself lacks is another fault: let it show.
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise
        found = None
    if not callable(found):
        raise UserError(f"estimator {path!r} does not exist; check the spelling of the import path")
    return found
