"""Words that several kinds of tasks share."""

from collections.abc import Sequence


def share_in_words(forget: int, fraction: float) -> str:
    """Return how many images are forgotten, and which share that is.

    Args:
        forget: number of images of D_f.
        fraction: in (0, 1].
    """
    return f"{forget} images: {fraction:.0%} of the training images"


def listed(classes: Sequence[int], names: Sequence[str]) -> str:
    """Return the names of classes, or which half of them it is."""
    middle, indices = len(names) // 2, list(range(len(names)))
    if len(names) > 2:  # noqa: PLR2004 - a half of one class is better named
        for half, which in ((indices[middle:], "upper"), (indices[:middle], "lower")):
            if list(classes) == half:
                return f"the {which} half"
    return ", ".join(names[index] for index in classes)
