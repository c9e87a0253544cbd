"""What all pictures share: colours, an empty figure, a file that is whole or not there."""

import io
import re
from pathlib import Path

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mixunlearn.atomic import replacing

DPI = 150
INK = "#222222"
PALE = "#8a8a8a"
# Okabe and Ito's colours can be distinguished with any colour vision; markers differ as well.
BLUE, ORANGE, VERMILION, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"
# In a page, ink has the colour of its text, and white that of its background, also in the dark.
OF_PAGE = {INK: "currentColor", "#000000": "currentColor", "#ffffff": "var(--page)"}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
mpl.rcParams["svg.hashsalt"] = "mixunlearn"  # equal figures get equal names of their parts
WIDE = 30  # ratio of largest to smallest from which a linear axis hides the good trials


def new_figure(*, width: float, height: float) -> Figure:
    """Return an empty figure, with its size in inches; it stays white in a dark page."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    # By hand: pyplot, which does this, keeps every figure and must not be used in threads.
    FigureCanvasAgg(figure)
    return figure


def write_picture(figure: Figure, path: Path) -> None:
    """Write the whole PNG or nothing: a reader never sees half a picture."""
    with replacing(path) as temporary:
        # Without Matplotlib's version in it, equal figures give equal files.
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def drawing(figure: Figure, words: str) -> Markup:
    """Return a figure as an element of a page, in the page's own colours.

    Args:
        figure: any; its text becomes outlines, so no name in it can become markup.
        words: what it shows, for those who cannot see it.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", facecolor="none", metadata=NO_METADATA)
    _, _, svg = stream.getvalue().partition("<svg ")
    svg = re.sub(r"<!--.*?-->\n?|\n\s*", " ", svg, flags=re.DOTALL)
    svg = re.sub("|".join(OF_PAGE), lambda found: OF_PAGE[found[0]], svg)
    # Ours: all that is not a number is escaped.
    return Markup('<svg role="img" aria-label="{}" {}').format(escape(words), Markup(svg))
