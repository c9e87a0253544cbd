"""Which columns of a Parquet file hold the images and the labels."""

from collections.abc import Sequence
from dataclasses import dataclass

from mixunlearn.errors import InputError

# The names that data sets on the Hugging Face Hub give them; the first one always has priority.
IMAGES = ("image", "img", "images", "picture", "photo", "pixel_values")
LABELS = ("label", "labels", "fine_label", "class", "target", "category")
COARSE = "coarse_label"  # never taken by itself, but named beside the column that is


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of the two columns.

    Args:
        image: of the images.
        label: of the labels.
        said: what the user should know about the choice, each in one line; empty if the user made
            it, or if the columns have the usual names.
    """

    image: str
    label: str
    said: tuple[str, ...] = ()


def choose(names: Sequence[str], image: str | None, label: str | None) -> Columns:
    """Return the columns to read: those that were given, else those with a usual name.

    Args:
        names: of all columns.
        image: `data.image`; `None` if it was not given.
        label: `data.label`; `None` if it was not given.

    Raises:
        InputError: several columns have a usual name, none of them the most usual one.
    """
    chosen_image = image or _usual("image", IMAGES, names)
    chosen_label = label or _usual("label", LABELS, names)
    said = []
    if not image and chosen_image != IMAGES[0]:
        said.append(f"images are read from column {chosen_image!r}; data.image names another")
    if not label and chosen_label != LABELS[0]:
        others = f", for example {COARSE!r}" if COARSE in names else ""
        said.append(f"labels are read from column {chosen_label!r}; data.label names another")
        said[-1] += others
    return Columns(image=chosen_image, label=chosen_label, said=tuple(said))


def _usual(option: str, usual: Sequence[str], names: Sequence[str]) -> str:
    found = [name for name in usual if name in names]
    if len(found) > 1 and found[0] != usual[0]:
        remedy = f"there are columns {' and '.join(found)}: set data.{option} to the one you mean"
        raise InputError(f"data.{option}", None, remedy)
    # Without any, the error about the usual one names the nearest and all others.
    return found[0] if found else usual[0]
