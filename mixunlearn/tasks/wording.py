"""Phrases that several kinds of tasks use in their descriptions."""

from collections.abc import Sequence

from mixunlearn.wording import counted


def share_in_words(forget: int, fraction: float) -> str:
    """Return the number of forgotten images and their share, in words.

    Args:
        forget: number of images of D_f.
        fraction: in (0, 1].
    """
    return f"{counted(forget, 'image')}: {100 * fraction:.3g}% of the training images"


def listed(classes: Sequence[int], names: Sequence[str]) -> str:
    """Return the names of classes, or "the upper half" or "the lower half" if they are that."""
    middle, indices = len(names) // 2, list(range(len(names)))
    if len(names) > 2:  # noqa: PLR2004 - if a half is one class, its name is clearer
        for half, which in ((indices[middle:], "upper"), (indices[:middle], "lower")):
            if list(classes) == half:
                return f"the {which} half"
    return ", ".join(names[index] for index in classes)
