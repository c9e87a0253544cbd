"""Hyperparameters as figures: which mattered, and how.

Shape suffixes: N trials, C cells, G points of a grid along one side.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
from scipy.interpolate import griddata
from scipy.spatial import QhullError

from report.interactive.panel import Recipe
from report.interactive.pieces import (
    Trace,
    Trials,
    coloraxis,
    counted,
    highlights,
    marks,
    number_of,
    objective_title,
    parameter_scale,
    parameter_title,
    plotly_figure,
    saying,
    scale_axis,
    small,
    subplot,
    trials_of,
    value_axis,
    value_scale,
    varying,
)
from report.interactive.scales import Floats, Scale, known
from report.interactive.theme import END, NO_VALUE, NOT_USED, STATES
from report.plots.drawing import BLUE
from report.report_data import PARAMS, ReportData

MOST, ABREAST = 6, 3  # slices: at most, and in each row
CELLS, GRID = 20, 60  # a contour's trials are averaged in cells, then drawn on a finer grid
LINES = 300  # at most so many lines can be distinguished
ENOUGH = 12  # with fewer trials a contour would be a guess


def parallel_coordinates(report_data: ReportData) -> go.Figure:
    """Draw each trial as a line across its hyperparameters and its objective.

    A hyperparameter that a trial does not have, and a missing objective, have a tick of their own.
    Only the best `LINES` trials are drawn: more would be slow and unreadable.
    """
    report_data = _readable(report_data)
    trials = trials_of(report_data)
    value = value_scale(trials.value_N)
    colours = coloraxis(report_data, value)
    scales = {
        **{
            parameter_title(report_data, n): parameter_scale(report_data, trials, n)
            for n in varying(report_data)
        },
        report_data.objective: value,
    }
    lines = {
        "type": "parcoords",
        "dimensions": [_dimension(scale, title) for title, scale in scales.items()],
        "line": {
            # Trials without a value lie below `cmin`: they get the colour of the worst.
            "color": small(np.maximum(-value.at_N, colours["cmin"])),
            "coloraxis": "coloraxis",
        },
        "labelangle": -20,
    }
    return plotly_figure(
        [lines], 480, coloraxis=colours, margin={"l": 70, "r": 40, "t": 90, "b": 30}
    )


def _dimension(scale: Scale, title: str) -> dict[str, Any]:
    return {
        "label": title,
        "values": small(scale.at_N),
        "range": [scale.low, scale.high],
        "tickvals": scale.ticks_T.tolist(),
        "ticktext": list(scale.labels),
    }


def _readable(report_data: ReportData) -> ReportData:
    """Return report data with the best `LINES` trials, or with all if there are no more."""
    few = len(report_data.rows) <= LINES
    return report_data if few else replace(report_data, rows=report_data.ranked()[:LINES])


def _nothing_varies(report_data: ReportData) -> str:
    return "" if varying(report_data) else "No hyperparameter has taken more than one value yet."


def _parallel_caption(report_data: ReportData) -> str:
    drawn = counted(report_data)
    if len(report_data.rows) > LINES:
        drawn = f"The best {LINES} of {drawn}"
    return (
        f"{drawn} as lines across the hyperparameters that vary, the best most "
        "visible; drag along an axis to select, drag its name to move it. A hyperparameter that "
        f"a trial does not have is at “{NOT_USED}”, a missing objective at “{NO_VALUE}”."
    )


def importance(report_data: ReportData) -> go.Figure:
    """Draw what share of the objective's variation each hyperparameter explains."""
    names = list(report_data.importance.shares)[::-1]  # Plotly draws rows from the bottom up
    if not names:
        return saying(_no_importance(report_data))
    shares = [report_data.importance.shares[name] for name in names]
    means, lows, highs = np.array([[share.mean, share.low, share.high] for share in shares]).T
    bars = {"type": "bar", "x": means, "y": names, "orientation": "h", "marker": {"color": BLUE}}
    points = {  # carry the intervals: those of bars cannot have the colour of the page's text
        "type": "scatter",
        "x": means,
        "y": names,
        "mode": "markers",
        "marker": {"symbol": "diamond", "size": 7},
        "error_x": {"array": highs - means, "arrayminus": means - lows, "symmetric": False},
        "customdata": np.column_stack([lows, highs]),
        "hovertemplate": "%{y}: %{x:.2~p} (%{customdata[0]:.2~p} to %{customdata[1]:.2~p})" + END,
    }
    title = {"text": f"share of the variation of {report_data.objective}"}
    axis = {"range": [0, 1], "tickformat": ".0%", "title": title}
    layout = {"showlegend": False, "xaxis": axis, "yaxis": {"showgrid": False}}
    return plotly_figure([{**bars, "hoverinfo": "skip"}, points], 110 + 30 * len(names), **layout)


def _no_importance(report_data: ReportData) -> str:
    if report_data.importance.shares:
        return ""
    trials = report_data.importance.trials or len(report_data.ranked())
    return report_data.importance.warning or f"Too few trials to say what mattered: {trials}."


def _importance_caption(report_data: ReportData) -> str:
    found = report_data.importance
    method = f" by {found.method}" if found.method else ""
    text = (
        f"Share of the variation of {report_data.objective} that a hyperparameter explains{method}"
        f", from {number_of(found.trials)}; intervals: 5th to 95th percentile."
    )
    return f"{text} {found.warning}".strip()


def slices(report_data: ReportData) -> go.Figure:
    """Draw the objective against each of the most important hyperparameters, at most six."""
    trials = trials_of(report_data)
    names = list(varying(report_data))[:MOST]
    lines = max(1, -(-len(names) // ABREAST))
    traces: list[Trace] = []
    axes: dict[str, Any] = {}
    for place, name in enumerate(names, start=1):
        scale, first = parameter_scale(report_data, trials, name), place % ABREAST == 1
        title = objective_title(report_data) if first else ""
        across = scale_axis(scale, parameter_title(report_data, name))
        across["ticktext"] = [text.replace(NOT_USED, "not<br>used") for text in across["ticktext"]]
        up = {**value_axis(title, trials.value_N.tolist()), "showticklabels": first}
        axes |= {f"xaxis{place}": across, f"yaxis{place}": {**up, "matches": "y"}}
        traces += _slice(report_data, trials, name, scale, place)
    axes.get("yaxis1", {}).pop("matches", None)  # the others match the first
    grid = {"rows": lines, "columns": ABREAST, "pattern": "independent", "xgap": 0.1, "ygap": 0.35}
    return plotly_figure(traces, 80 + 270 * lines, grid=grid, **axes)


def _slice(
    report_data: ReportData, trials: Trials, name: str, scale: Scale, place: int
) -> Iterator[Trace]:
    """Yield the points of one slice; the hover text has the value only if positions are numbers."""
    value = f"<br>{report_data.objective} %{{y:.4~g}}{END}"
    common: Trace = dict(subplot(place))
    number = f"<br>{name} %{{x:.4~g}}" if scale.numeric else ""
    # The first slice explains the states for all.
    explained: set[str] = set() if place == 1 else set(STATES)
    for shown_N, text in ((scale.used_N, number), (~scale.used_N, f"<br>{name} {NOT_USED}")):
        for state, chosen_N in trials.states(shown_N & trials.valued_N):
            more = {**common, "hovertemplate": f"trial %{{customdata}}, {state}{text}{value}"}
            more["showlegend"] = state not in explained
            explained.add(state)
            yield marks(trials, state, chosen_N, scale.values_N, trials.value_N, **more)
    common["showlegend"] = place == 1
    yield from highlights(trials, scale.values_N, trials.value_N, value, **common)


def _no_slices(report_data: ReportData) -> str:
    return _nothing_varies(report_data) or (
        "" if report_data.ranked() else "No trial has a value yet."
    )


def _slices_caption(report_data: ReportData) -> str:
    shown = min(MOST, len(varying(report_data)))
    which = "most important" if report_data.importance.shares else "first"
    without = len(report_data.rows) - len(report_data.ranked())
    left = f" {number_of(without)} without a value cannot be shown." if without else ""
    trials = number_of(len(report_data.ranked()))
    return (
        f"{report_data.objective} of {trials} against each of the {shown} "
        f"{which} hyperparameters, lower is better; star: best, square: default.{left}"
    )


def contour(report_data: ReportData) -> go.Figure:
    """Draw the objective over the two most important numeric hyperparameters.

    Trials are averaged in cells of a twentieth of each axis, then interpolated linearly. Outside
    of the trials nothing is drawn.
    """
    trials, pair = trials_of(report_data), _pair(report_data)
    if not pair:
        return saying(_no_contour(report_data))
    value = value_scale(trials.value_N)
    x, y = (parameter_scale(report_data, trials, name) for name in pair)
    axes = [
        scale_axis(s, parameter_title(report_data, n)) for s, n in zip((x, y), pair, strict=True)
    ]
    text = f"trial %{{customdata[0]}}<br>{report_data.objective} %{{customdata[1]:.4~g}}{END}"
    custom_N2 = small(np.column_stack([trials.number_N, trials.value_N]))
    traces = list(_surface(x, y, value))
    for state, chosen_N in trials.states(trials.valued_N):
        more = {"customdata": custom_N2[chosen_N], "hovertemplate": text}
        traces.append(marks(trials, state, chosen_N, x.values_N, y.values_N, **more))
    traces += highlights(trials, x.values_N, y.values_N, END)
    colours = coloraxis(report_data, value)
    return plotly_figure(traces, 520, xaxis=axes[0], yaxis=axes[1], coloraxis=colours)


def _surface(x: Scale, y: Scale, value: Scale) -> Iterator[Trace]:
    """Yield the filled contour, if enough trials have both numbers and do not lie on a line."""
    usable_N = x.used_N & y.used_N & value.used_N
    if usable_N.sum() < ENOUGH:
        return
    # In the unit square: triangles depend on how long the axes are.
    unit_N2 = np.column_stack([(s.at_N - s.low) / (s.high - s.low) for s in (x, y)])[usable_N]
    # Near neighbours with different values would draw needles.
    at_C2, value_C = _averaged(unit_N2, value.at_N[usable_N])
    sides = np.linspace(at_C2.min(axis=0), at_C2.max(axis=0), GRID).T
    try:
        # Linear: it never leaves the values of the trials, as a cubic one does.
        z_GG = griddata(at_C2, value_C, tuple(np.meshgrid(*sides)), method="linear")
    except QhullError:  # the points lie on a line
        return
    along = [
        s.unscaled(s.low + at_G * (s.high - s.low)) for s, at_G in zip((x, y), sides, strict=True)
    ]
    yield {
        "type": "contour",
        "x": small(along[0]),
        "y": small(along[1]),
        # Negated like the colour axis, see `coloraxis`.
        "z": small(-z_GG),
        "coloraxis": "coloraxis",
        "line": {"width": 0},
        "opacity": 0.75,
        "ncontours": 12,
        "hoverinfo": "skip",
    }


def _averaged(unit_N2: Floats, value_N: Floats) -> tuple[Floats, Floats]:
    """Return positions and values, each the mean of the trials in a cell of the unit square."""
    _, cell_N = np.unique((unit_N2 * CELLS).astype(np.int64), axis=0, return_inverse=True)
    # NumPy 2.0 returns the inverse as a column, other versions as a vector.
    cell_N = cell_N.ravel()
    sums = [np.bincount(cell_N, weights=each_N) for each_N in (*unit_N2.T, value_N)]
    x_C, y_C, value_C = (sum_C / np.bincount(cell_N) for sum_C in sums)
    return np.column_stack([x_C, y_C]), value_C


def _pair(report_data: ReportData) -> list[str]:
    """Return the two numeric hyperparameters to draw; empty if there are fewer than two."""
    numbers = [name for name, axis in varying(report_data).items() if axis.low is not None]
    return numbers[:2] if len(numbers) > 1 else []


def _no_contour(report_data: ReportData) -> str:
    if not _pair(report_data):
        return "Fewer than two numeric hyperparameters vary."
    return "" if report_data.ranked() else "No trial has a value yet."


def _contour_caption(report_data: ReportData) -> str:
    pair = _pair(report_data)
    both = sum(all(known(row.get(PARAMS + name)) for name in pair) for row in report_data.ranked())
    how = (
        "interpolated between them; nothing is drawn outside of them"
        if both >= ENOUGH
        else f"too few to interpolate ({ENOUGH} are needed)"
    )
    return (
        f"{report_data.objective} over {' and '.join(pair)} in {number_of(both)}, {how}. All other "
        "hyperparameters vary as well, so it shows only a tendency. Star: best, square: default."
    )


PARALLEL_COORDINATES = Recipe(
    title="All hyperparameters at once",
    draw=parallel_coordinates,
    caption=_parallel_caption,
    missing=_nothing_varies,
)
IMPORTANCE = Recipe(
    title="Importance",
    draw=importance,
    caption=_importance_caption,
    missing=_no_importance,
)
SLICES = Recipe(
    title="Hyperparameters one by one", draw=slices, caption=_slices_caption, missing=_no_slices
)
CONTOUR = Recipe(
    title="Two hyperparameters together",
    draw=contour,
    caption=_contour_caption,
    missing=_no_contour,
)
