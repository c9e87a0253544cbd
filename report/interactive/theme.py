"""Colours and symbols of the figures, and the templates of a light and a dark page.

The colours can be distinguished with any colour vision; symbols differ as well.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from plotly.colors import sample_colorscale

from report.plots.drawing import BLUE, GREEN, ORANGE, VERMILION

GREY = "#808080"  # as far from white as from black
EDGE = {"width": 0.8, "color": "#ffffff"}  # between points that cover each other
STATES: dict[str, Mapping[str, Any]] = {
    "complete": {"symbol": "circle", "color": BLUE, "size": 9, "line": EDGE},
    "pruned": {"symbol": "triangle-down-open", "color": ORANGE, "size": 9, "line": {"width": 1.6}},
    "failed": {"symbol": "x", "color": VERMILION, "size": 8, "line": {"width": 0}},
    "unfinished": {"symbol": "circle-open", "color": GREY, "size": 8, "line": {"width": 1}},
}
LABELS = {"pruned": "pruned, at its last epoch"}
BEST_MARK = {"symbol": "star", "size": 14}  # in the colour of the page's text
DEFAULT = {"symbol": "square-open", "size": 16, "color": ORANGE, "line": {"width": 2.5}}
SYMBOLS = {"": "circle-open", "o": "star", "D": "diamond", "s": "square"}  # of Matplotlib's markers
SHADE = {
    "type": "rect",
    "fillcolor": GREEN,
    "opacity": 0.28,
    "line": {"width": 0},
    "layer": "below",
}
NOT_USED, NO_VALUE = "not used", "no value"
END = "<extra></extra>"  # ends a hover text: no second box with the trace's name


def _template(*, text: str, lines: str, page: str, colours: tuple[float, float]) -> dict[str, Any]:
    """Return a template; `colours` are the ends of the part of Cividis that the page can show."""
    clear = "rgba(0,0,0,0)"
    axis = {"gridcolor": lines, "linecolor": lines, "zeroline": False, "automargin": True}
    axis["title"] = {"standoff": 12}
    stops = np.linspace(0, 1, 9).tolist()
    shades = sample_colorscale("Cividis", np.linspace(*colours, 9).tolist())
    scale = [list(stop) for stop in zip(stops, shades, strict=True)]
    layout = {
        "font": {"color": text, "size": 12, "family": "system-ui, sans-serif"},
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "colorway": [text],  # for every trace without a colour of its own
        "xaxis": axis,
        "yaxis": axis,
        "coloraxis": {"colorscale": scale, "colorbar": {"outlinewidth": 0, "thickness": 14}},
        "hoverlabel": {"bgcolor": page, "bordercolor": lines, "font": {"color": text}},
        "modebar": {"bgcolor": clear, "color": GREY, "activecolor": text},
    }
    return {"layout": layout}


# The best trials, which have the lowest values, stand out most.
LIGHT = _template(text="#222222", lines="#d0d0d0", page="#ffffff", colours=(0, 0.85))
DARK = _template(text="#e6e6e6", lines="#484848", page="#1c1c1c", colours=(1, 0.25))
