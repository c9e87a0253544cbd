"""Parts that several figures share: trials as columns, points, axes.

Shape suffixes: N trials.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from mixunlearn import wording
from report.interactive.scales import Flags, Floats, Scale, logarithmic, placed
from report.interactive.theme import (
    BEST_MARK,
    DEFAULT,
    LABELS,
    LIGHT,
    NO_VALUE,
    NOT_USED,
    SHADE,
    STATES,
)
from report.notation import unit_name
from report.report_data import PARAMS, Axis, ReportData, Row

Trace: TypeAlias = dict[str, Any]

MANY = 1000  # trials; more are drawn with WebGL, which is always on top of other traces
SIZES = ((200, 1.0), (MANY, 0.75), (10**9, 0.5))  # (up to so many trials, size of their marks)


@dataclass(frozen=True, kw_only=True)
class Trials:
    """The N finished trials of report data as columns, by number.

    Args:
        rows: the trials' rows, unchanged.
        number_N, state_N: number and state of each trial.
        value_N: the objective, NaN if a trial has none.
    """

    rows: Sequence[Row]
    number_N: Floats
    state_N: npt.NDArray[np.str_]
    value_N: Floats

    @property
    def valued_N(self) -> Flags:
        """Which trials have an objective."""
        return np.isfinite(self.value_N)

    def states(self, shown_N: Flags) -> Iterator[tuple[str, Flags]]:
        """Yield each state with trials to show, and which these are; the topmost state is last."""
        for state in reversed(STATES):
            chosen_N = (self.state_N == state) & shown_N
            if chosen_N.any():
                yield state, chosen_N


def trials_of(report_data: ReportData) -> Trials:
    """Return the finished trials of report data."""
    rows = sorted(report_data.rows, key=lambda row: int(row["trial"]))
    return Trials(
        rows=rows,
        number_N=np.array([row["trial"] for row in rows], dtype=np.float64),
        state_N=np.array([row["state"] for row in rows], dtype=np.str_),
        value_N=np.array([report_data.value(row) for row in rows], dtype=np.float64),
    )


def counted(report_data: ReportData) -> str:
    """Return for example `16 trials (9 complete, 6 pruned, 1 failed)`."""
    found = Counter(str(row["state"]) for row in report_data.rows)
    states = ", ".join(f"{found[state]} {state}" for state in STATES if found[state])
    return f"{number_of(len(report_data.rows))} ({states})"


def number_of(trials: int) -> str:
    """Return for example `1 trial`."""
    return wording.counted(trials, "trial")


def varying(report_data: ReportData) -> dict[str, Axis]:
    """Return the hyperparameters that took more than one value, the most important first."""
    taken = {
        name: {row.get(PARAMS + name) for row in report_data.rows} for name in report_data.axes
    }
    names = [*report_data.importance.shares, *report_data.axes]
    return {name: report_data.axes[name] for name in names if len(taken.get(name, ())) > 1}


def plotly_figure(traces: Sequence[Trace], height: int, **layout: Any) -> go.Figure:  # noqa: ANN401
    """Return a figure of some traces, for a light page, with its height in pixels."""
    base = {
        "template": LIGHT,
        "height": height,
        "margin": {"l": 60, "r": 20, "t": 30, "b": 50},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "closest",
    }
    return go.Figure(data=list(traces), layout={**base, **layout})


def saying(text: str) -> go.Figure:
    """Return a figure that shows only a sentence."""
    place = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
    hidden = {"visible": False}
    return plotly_figure([], 160, annotations=[{"text": text, **place}], xaxis=hidden, yaxis=hidden)


def small(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return numbers as float32: half the size in a page, and precise enough to draw."""
    return np.asarray(values, dtype=np.float32)


def kind_of(count: int) -> str:
    """Return the kind of trace that draws so many trials fast enough."""
    return "scattergl" if count > MANY else "scatter"


def size_among(count: int) -> float:
    """Return the relative size of each of `count` marks; 1 is full size."""
    return next(size for most, size in SIZES if count <= most)


def mark(state: str, count: int) -> Trace:
    """Return the look of each of `count` trials in a state."""
    size = size_among(count)
    look = STATES[state]
    line = {**look["line"], "width": look["line"]["width"] * size}
    return {
        "mode": "markers",
        "marker": {**look, "size": look["size"] * size, "line": line},
        "name": LABELS.get(state, state),
        "legendgroup": state,
        # The traces are drawn in reverse, so the legend needs an order of its own.
        "legendrank": list(STATES).index(state),
    }


def marks(
    trials: Trials,
    state: str,
    chosen_N: Flags,
    x_N: Floats,
    y_N: Floats,
    **more: Any,  # noqa: ANN401
) -> Trace:
    """Return the chosen trials, all in one state, as points with their number as data."""
    return {
        "type": kind_of(len(trials.rows)),
        "x": small(x_N[chosen_N]),
        "y": small(y_N[chosen_N]),
        **mark(state, len(trials.rows)),
        "customdata": trials.number_N[chosen_N].astype(np.int64),
        **more,
    }


def highlights(
    trials: Trials,
    x_N: Floats,
    y_N: Floats,
    hover: str,
    **more: Any,  # noqa: ANN401
) -> list[Trace]:
    """Return the default and the best trial, on top of the others."""
    # With equal values the lowest number is the best, as in `ranked`: hence [:1] below.
    best = np.nanmin(trials.value_N) if trials.valued_N.any() else np.nan
    found = {
        "default": (trials.number_N == 0, DEFAULT),
        "best": (trials.value_N == best, BEST_MARK),
    }
    return [
        {
            "type": kind_of(len(trials.rows)),
            "x": small(x_N[[place]]),
            "y": small(y_N[[place]]),
            "mode": "markers",
            "marker": marker,
            "name": f"{label} (trial {trials.number_N[place]:.0f})",
            "legendgroup": label,
            "hovertemplate": f"{label}, trial {trials.number_N[place]:.0f}{hover}",
            **more,
        }
        for label, (is_N, marker) in found.items()
        for place in np.flatnonzero(is_N & trials.valued_N & np.isfinite(x_N + y_N))[:1]
    ]


def value_axis(
    title: str, values: Sequence[float | None], band: Sequence[float] = ()
) -> dict[str, Any]:
    """Return Plotly's axis of an objective, logarithmic if a linear one would hide good trials."""
    drawn = [value for value in (*values, *band) if value is not None and np.isfinite(value)]
    axis = {"type": "linear", "title": {"text": title}}
    if logarithmic(values, band):
        positive = [value for value in drawn if value > 0]
        # Plotly takes the range of a logarithmic axis as exponents.
        low, high = np.log10([min(positive) / 1.4, max(positive) * 1.4]).tolist()
        step = "D2" if high - low < 4 else 1  # noqa: PLR2004  1, 2 and 5, or decades alone
        return {**axis, "type": "log", "range": [low, high], "tickformat": "~g", "dtick": step}
    if drawn and min(drawn) >= 0:
        return {**axis, "range": [0, max(drawn) * 1.08 or 1]}
    return axis if drawn else {**axis, "showticklabels": False}


def subplot(place: int) -> dict[str, str]:
    """Return the names of the axes of a subplot, counted from 1."""
    number = "" if place == 1 else place
    return {"xaxis": f"x{number}", "yaxis": f"y{number}"}


def scale_axis(scale: Scale, title: str) -> dict[str, Any]:
    """Return Plotly's axis of a scale."""
    return {
        "type": "log" if scale.log else "linear",
        "range": [scale.low, scale.high],
        "tickvals": scale.unscaled(scale.ticks_T).tolist(),
        "ticktext": list(scale.labels),
        "title": {"text": title},
    }


def objective_title(report_data: ReportData) -> str:
    """Return the objective with its unit."""
    name, unit = report_data.objective, unit_name(report_data.objective)
    return f"{name} ({unit})" if unit else name


def value_scale(value_N: Floats) -> Scale:
    """Return the positions of objectives; trials without one are placed beyond the worst."""
    found = value_N[np.isfinite(value_N)].tolist() or [0.0, 1.0]
    axis = Axis(low=min(found), high=max(found), log=logarithmic(found))
    return placed(axis, value_N.tolist(), absent=NO_VALUE, above=True)


def parameter_scale(report_data: ReportData, trials: Trials, name: str) -> Scale:
    """Return the positions of the trials' values of a hyperparameter."""
    values = [row.get(PARAMS + name) for row in trials.rows]
    return placed(report_data.axes[name], values, absent=NOT_USED)


def parameter_title(report_data: ReportData, name: str) -> str:
    """Return a hyperparameter with its unit."""
    unit = report_data.axes[name].unit
    return f"{name} ({unit})" if unit else name


def coloraxis(report_data: ReportData, value: Scale) -> dict[str, Any]:
    """Return the colour axis of negated positions: Plotly draws the highest on top."""
    found = value.at_N[value.used_N]
    low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 1.0)
    ticks = zip(value.ticks_T.tolist(), value.labels, strict=True)
    # The bar of colours has no place for "no value", which lies beyond the worst.
    inside = {-at: label for at, label in ticks if label != NO_VALUE}
    bar = {"tickvals": list(inside), "ticktext": list(inside.values())}
    title = {"text": objective_title(report_data), "side": "right"}
    ends = {"cmin": -high, "cmax": -low, "reversescale": True}
    return {**ends, "colorbar": {**bar, "title": title}}


def band_shapes(report_data: ReportData, axis: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the band of the references against each other, cut at the low end of a log axis."""
    if report_data.band is None:
        return []
    low, high = report_data.band
    low = max(low, 10 ** axis["range"][0]) if axis["type"] == "log" else low
    # A band wholly below the axis becomes a line at its edge.
    across = {"xref": "paper", "x0": 0, "x1": 1, "y0": low, "y1": max(low, high)}
    return [{**SHADE, **across, "name": "references against each other", "showlegend": True}]
