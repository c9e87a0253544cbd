"""What all pictures share: colours, an empty figure, a file that is whole or not there."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mixunlearn.atomic import replacing

DPI = 150
INK = "#222222"
PALE = "#8a8a8a"
# Okabe and Ito's colours can be distinguished with any colour vision; markers differ as well.
BLUE, ORANGE, VERMILION, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"
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
