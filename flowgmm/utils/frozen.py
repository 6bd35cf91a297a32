"""Read-only dictionaries and lists, which JSON and comparisons take as plain ones."""

from typing import Any, NoReturn

__all__ = ["FrozenDict", "FrozenList", "freeze"]


def _refuse(self: Any, *_: Any, **__: Any) -> NoReturn:
    raise TypeError(f"{type(self).__name__} is read-only; change a copy (copy.deepcopy)")


class FrozenDict(dict[Any, Any]):
    """Dictionary that cannot be changed. `copy.deepcopy` and pickling give plain ones."""

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class FrozenList(list[Any]):
    """List that cannot be changed. `copy.deepcopy` and pickling give plain ones."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = remove = pop = clear = _refuse
    sort = reverse = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def freeze(value: Any) -> Any:
    """Copy a value with all dictionaries and lists in it made read-only.

    Arguments:
        value: Nested dictionaries and lists of plain values; anything else stays as it is.

    Returns:
        The read-only copy; parts that are read-only already are shared.

    Examples:
        >>> settings = freeze({"params": {"lr": 0.1}})
        >>> settings["params"]["lr"]
        0.1
        >>> settings["params"]["lr"] = 1
        Traceback (most recent call last):
        ...
        TypeError: FrozenDict is read-only; change a copy (copy.deepcopy)
    """
    if type(value) is dict:
        return FrozenDict({key: freeze(inner) for key, inner in value.items()})
    if type(value) is list:
        return FrozenList(map(freeze, value))
    return value
