"""Finds the feature maps among a classifier's inner outputs, and chooses the useful stages.

Shape suffixes: B batch, C channels of the features, P positions, H W pixels of the image.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from torch import Tensor

MapShape: TypeAlias = tuple[int, int, int]  # (C, h, w)

MAX_POSITIONS = 32 * 32  # of a stage: the cost of the generator's attention is quadratic in them
MAX_STAGES = 5
DEPTHS = 4  # number of stages for a model with one resolution


def as_map(output: object, size: tuple[int, int]) -> Tensor | None:
    """Return an inner output as a feature map (B, C, h, w); `None` if it is not a feature map.

    A map has the image's proportions, at least 2×2 positions, and not more than the image.
    Accepted shapes are (B, C, h, w); (B, h, w, C), as in Swin; tokens (B, h·w, C), or with a class
    token before them, which is dropped, (B, 1 + h·w, C), as in ViT.

    Args:
        output: output of a module.
        size: (H, W) of the images.
    """
    match output:
        case Tensor(ndim=4) if _fits(output.shape[2:], size):
            return output
        case Tensor(ndim=4) if _fits(output.shape[1:3], size):
            return output.permute(0, 3, 1, 2)
        case Tensor(ndim=3):
            return _of_tokens(output, size)
    return None


def few(maps: Mapping[str, MapShape]) -> tuple[str, ...]:
    """Return the stages a search chooses from: for each lower resolution, the last outer module.

    If there is only one resolution, as in ViT, these are 4 blocks at even distances.

    Args:
        maps: name -> shape, in the order in which they are computed.
    """
    small = {name: h * w for name, (_, h, w) in maps.items() if h * w <= MAX_POSITIONS}
    levels: dict[int, list[str]] = {}
    for name, positions in small.items():
        if positions <= min(levels, default=positions):  # VGG enlarges its maps again at the end
            levels.setdefault(positions, []).append(name)
    if len(levels) == 1:
        return _spread(_siblings(small))
    return tuple(_last_outer(names) for names in levels.values())[-MAX_STAGES:]


def _of_tokens(output_BPC: Tensor, size: tuple[int, int]) -> Tensor | None:
    for extra in (0, 1):
        positions = output_BPC.shape[1] - extra
        height = max(round((positions * size[0] / size[1]) ** 0.5), 1)
        shape = (height, positions // height)
        if height * shape[1] == positions and _fits(shape, size):
            channels_first = output_BPC[:, extra:].transpose(1, 2)
            return channels_first.reshape(*channels_first.shape[:2], *shape)
    return None


def _fits(shape: Iterable[int], size: tuple[int, int]) -> bool:
    """Return whether (h, w) is the image's (H, W), divided by one number and rounded."""
    (height, width), (image_height, image_width) = shape, size
    inside = 2 <= height <= image_height and 2 <= width <= image_width  # noqa: PLR2004
    return inside and abs(height * image_width - width * image_height) < max(size)


def _last_outer(names: list[str]) -> str:
    # `min` returns the first of equal names, so they are reversed to get the last.
    return min(reversed(names), key=lambda name: name.count("."))


def _siblings(names: Iterable[str]) -> list[str]:
    """Return the blocks: the names inside the module that contains most of the names."""
    within = {name: name.rpartition(".")[0] for name in names}
    parent, _ = Counter(within.values()).most_common(1)[0]
    return [name for name in within if within[name] == parent]


def _spread(names: list[str]) -> tuple[str, ...]:
    count = min(DEPTHS, len(names))
    return tuple(names[len(names) * number // count - 1] for number in range(1, count + 1))
