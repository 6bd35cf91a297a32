"""The parts of an estimator: small objects that hold parameters and are free of torch.

Each takes its parameters as scikit-learn's estimators do, so that `clone`, `set_params` and a grid
over `training__lr` work. Ranges are checked when the estimator is fitted.
"""

from collections.abc import Mapping
from typing import Any

from flowgmm.methods.parts.flow import MultiscaleRealNVP, RealNVP
from flowgmm.methods.parts.mixture import LatentMixture
from flowgmm.methods.parts.objective import Objective
from flowgmm.methods.parts.part import Part
from flowgmm.methods.parts.training import Training

__all__ = [
    "PARTS",
    "LatentMixture",
    "MultiscaleRealNVP",
    "Objective",
    "Part",
    "RealNVP",
    "Training",
    "part_from_json",
    "part_to_json",
    "with_parts",
]

# Classes that a parameter of an estimator takes; a mapping without `class` is of the first.
PARTS: dict[str, tuple[type[Part], ...]] = {
    "flow": (RealNVP, MultiscaleRealNVP),
    "mixture": (LatentMixture,),
    "objective": (Objective,),
    "training": (Training,),
}
_CLASSES = {part.__name__: part for parts in PARTS.values() for part in parts}


def with_parts(params: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the mappings of a recipe under the names of parts by parts.

    Arguments:
        params: Parameters of an estimator.

    Raises:
        ValueError: If a part has no such parameter.
    """
    return {
        name: part_from_json({"class": PARTS[name][0].__name__, **value})
        if name in PARTS and isinstance(value, Mapping)
        else value
        for name, value in params.items()
    }


def part_to_json(value: Any) -> Any:
    """A part as a JSON object with its class's name; any other value as it is."""
    return {"class": type(value).__name__, **vars(value)} if isinstance(value, Part) else value


def part_from_json(value: Any) -> Any:
    """Undo `part_to_json`.

    Raises:
        ValueError: If the class or a parameter is unknown.
    """
    if not isinstance(value, Mapping) or "class" not in value:
        return value
    params = {k: v for k, v in value.items() if k != "class"}
    if value["class"] not in _CLASSES:
        raise ValueError(f"unknown part {value['class']!r}; expected one of {', '.join(_CLASSES)}")
    try:
        return _CLASSES[value["class"]](**params)
    except TypeError as error:
        raise ValueError(f"{value['class']}: {error}") from error
