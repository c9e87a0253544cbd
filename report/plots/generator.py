"""What a generator mixes, and its masks."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from report.plots.drawing import INK, new_figure, write_picture
from report.report_data import Masks, Mixtures, Pixels

MASKS: dict[str, Any] = {"cmap": "cividis", "vmin": 0.0, "vmax": 1.0}
LINES = ("forget", "retain", "mask", "mixed", "mean mask")
EDGE, GAP, TITLE = 1.2, 0.1, 0.25  # inches: of an image, between two, for the name above
LONGEST_NAME = 14  # of a class, in characters


def generator_picture(mixtures: Mixtures, path: Path) -> None:
    """Draw what a generator mixes, and its masks.

    Args:
        mixtures: the generator's mixtures.
        path: the PNG file to write, atomically.
    """
    write_picture(generator_figure(mixtures), path)


def generator_figure(mixtures: Mixtures) -> Figure:
    """Return the figure of `generator_picture`: one column per pair, then the mean masks."""
    pairs, classes = len(mixtures.lams), len(mixtures.mean_classes)
    columns = max(pairs, 3)
    # The last label belongs to the first of the lines of means, whose number is rounded up.
    lines = len(LINES) - 1 + -(-classes // columns)
    width, height = 1.4 + (EDGE + GAP) * columns, 0.1 + (EDGE + GAP + TITLE) * lines
    figure = new_figure(width=width, height=height)
    figure.set_layout_engine("none")  # all positions are fixed; a layout takes seconds
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for column in range(pairs):
        _draw_pair(axes, column, mixtures)
    for place, name in enumerate(mixtures.mean_classes):
        line, column = divmod(place, columns)
        _draw_image(axes, line + len(LINES) - 1, column, mixtures.mean_masks[place], name)
    for line, label in enumerate(LINES):
        middle = _top(line) + EDGE / 2
        axes.text(0.2, middle, label, rotation=90, ha="center", va="center", color=INK)
    # One pair of axes in inches for all images, from the top down.
    axes.set(xlim=(0, width), ylim=(height, 0))
    masks = ScalarMappable(Normalize(MASKS["vmin"], MASKS["vmax"]), MASKS["cmap"])
    bar = figure.colorbar(masks, cax=figure.add_axes((1 - 0.85 / width, 0.25, 0.2 / width, 0.5)))
    bar.set_label("share of the forget image in a pixel")
    return figure


def _top(line: int) -> float:
    """Return how far from the figure's top the images of a line begin, in inches."""
    return line * (EDGE + GAP + TITLE) + TITLE + 0.05


def _draw_pair(axes: Axes, column: int, mixtures: Mixtures) -> None:
    _draw_image(axes, 0, column, mixtures.forget[column], mixtures.forget_classes[column])
    _draw_image(axes, 1, column, mixtures.retain[column], mixtures.retain_classes[column])
    _draw_image(axes, 2, column, mixtures.masks[column], f"λ = {mixtures.lams[column]:.2f}")
    _draw_image(axes, 3, column, mixtures.mixed[column], "")


def _draw_image(axes: Axes, line: int, column: int, image: Pixels | Masks, name: str) -> None:
    """Draw a mask of shape (H, W), or an image of shape (H, W, 1) or (H, W, 3)."""
    left, top = 0.4 + column * (EDGE + GAP), _top(line)
    # imshow takes grey images without a channel axis.
    pixels = image[..., 0] if image.shape[2:] == (1,) else image
    look = MASKS if image.ndim == 2 else {"cmap": "gray", "vmin": 0, "vmax": 255}  # noqa: PLR2004
    axes.imshow(pixels, extent=(left, left + EDGE, top + EDGE, top), aspect="auto", **look)
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    place: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 9, "color": INK}
    # A name may contain dollar signs, which would start a formula.
    axes.text(left + EDGE / 2, top - 0.04, short, parse_math=False, **place)
