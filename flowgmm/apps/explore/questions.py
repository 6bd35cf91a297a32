"""Questions of the page: JSON that is checked before the explorer computes with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["MOST_IMAGES", "Feature", "integer", "parse_channel", "parse_feature"]

# Images in one question.
MOST_IMAGES = 12
# Largest change of a feature, in standard deviations.
MOST_ALPHA = 100.0


@dataclass(frozen=True)
class Feature:
    """Feature to perturb.

    Arguments:
        images: Rows of the test images to change.
        layer: Step of the flow (spec 1.3), from 1 on.
        channel: Channel there.
        alpha: Standard deviations.
        position: Row and column there; None: everywhere.
    """

    images: tuple[int, ...]
    layer: int
    channel: int
    alpha: float
    position: tuple[int, int] | None


def parse_feature(
    question: Mapping[str, Any], n_images: int, shapes: Sequence[tuple[int, int, int]]
) -> Feature:
    """Check a question for a feature.

    Arguments:
        question: JSON object with ``images``, ``layer``, ``channel``, ``alpha``, ``position``.
        n_images: Number of test images.
        shapes: (C, H, W) of the feature maps before and after each step of the flow.

    Raises:
        ValueError: If a value is missing, of another type or out of range.
    """
    images = question.get("images")
    if not isinstance(images, list) or not 1 <= len(images) <= MOST_IMAGES:
        raise ValueError(f"images={images!r} is not a list of 1 to {MOST_IMAGES} rows")
    rows = tuple(integer({"image": image}, "image", n_images) for image in images)
    layer, channel = parse_channel(question, shapes)
    alpha: Any = question.get("alpha")
    if type(alpha) not in (int, float) or not abs(alpha) <= MOST_ALPHA:
        raise ValueError(f"alpha={alpha!r} is not a number in +-{MOST_ALPHA:g}")
    position = question.get("position")
    if position is not None:
        if not isinstance(position, list) or len(position) != 2:
            raise ValueError(f"position={position!r} is neither null nor [row, column]")
        _, height, width = shapes[layer]
        place = dict(zip(("row", "column"), position, strict=True))
        position = (integer(place, "row", height), integer(place, "column", width))
    return Feature(rows, layer, channel, float(alpha), position)


def parse_channel(
    question: Mapping[str, Any], shapes: Sequence[tuple[int, int, int]]
) -> tuple[int, int]:
    """Check ``layer`` and ``channel`` of a question.

    Arguments:
        question: JSON object.
        shapes: (C, H, W) of the feature maps before and after each step of the flow.

    Raises:
        ValueError: If a value is missing, of another type or out of range.
    """
    layer = integer(question, "layer", len(shapes), low=1)
    return layer, integer(question, "channel", shapes[layer][0])


def integer(question: Mapping[str, Any], name: str, stop: int, low: int = 0) -> int:
    """Check that `question[name]` is an integer from `low` to `stop - 1`.

    Raises:
        ValueError: If it is not.
    """
    value = question.get(name)
    if type(value) is not int or not low <= value < stop:  # True is not accepted as 1
        raise ValueError(f"{name}={value!r} is not an integer in {low}..{stop - 1}")
    return value
