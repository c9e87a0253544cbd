"""The search as figures: trial by trial, and epoch by epoch.

Shape suffixes: N trials, P points of joined curves.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from mixunlearn import wording
from mixunlearn.plain import finite
from report.interactive.panel import Recipe
from report.interactive.pieces import (
    Trace,
    Trials,
    band_shapes,
    counted,
    kind_of,
    mark,
    marks,
    number_of,
    objective_title,
    plotly_figure,
    size_among,
    small,
    trials_of,
    value_axis,
)
from report.interactive.scales import known, written
from report.interactive.theme import BEST_MARK, END, GREY, NO_VALUE, NOT_USED, STATES
from report.report_data import PARAMS, ReportData, Row

FEW = 8  # up to so many trials or epochs, each has a tick


def best_so_far(report_data: ReportData) -> go.Figure:
    """Draw the objective of each trial in order of number, and the best so far.

    A trial that was stopped early counts: it is a configuration with fewer epochs. Trials without
    a value are drawn in a strip at the top: at the bottom a failure would look like the best.
    """
    trials = trials_of(report_data)
    axis = value_axis(
        objective_title(report_data),
        [*trials.value_N, report_data.original],
        report_data.band or (),
    )
    shapes = band_shapes(report_data, axis)
    if report_data.original is not None:
        line = {"color": GREY, "dash": "dash", "width": 1.5}
        across = {
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": report_data.original,
            "y1": report_data.original,
        }
        name = {"name": "original, untouched", "showlegend": True, "layer": "below"}
        shapes.append({"type": "line", "line": line, **across, **name})
    layout: dict[str, Any] = {"xaxis": {"title": {"text": "trial"}}, "yaxis": axis}
    if len(trials.rows) <= FEW:
        layout["xaxis"]["dtick"] = 1
    if not trials.valued_N.all():
        axis["domain"] = [0, 0.9]
        strip = {"domain": [0.93, 1], "range": [-1, 1], "tickvals": [0], "ticktext": [NO_VALUE]}
        layout["yaxis2"] = {**strip, "showgrid": False}
    traces = [*_search_marks(report_data, trials), *_best_line(report_data, trials)]
    return plotly_figure(traces, 460, shapes=shapes, **layout)


def _search_marks(report_data: ReportData, trials: Trials) -> Iterator[Trace]:
    """Yield the trials by state, first those with a value, then those in the strip above."""
    parts = [
        f"<br>{name} %{{customdata[{place}]}}" for place, name in enumerate(report_data.axes, 1)
    ]
    hyperparameters = f"<br>%{{customdata[0]}}{''.join(parts)}{END}"
    value = f"{report_data.objective} %{{y:.4~g}}"
    rail_N = np.zeros(len(trials.rows))
    # A state may have points in both parts, but only one entry in the legend.
    explained: set[str] = set()
    for shown_N, y_N, axis, text in (
        (trials.valued_N, trials.value_N, "y", value),
        (~trials.valued_N, rail_N, "y2", NO_VALUE),
    ):
        for state, chosen_N in trials.states(shown_N):
            places = np.flatnonzero(chosen_N).tolist()
            more = {
                "customdata": [_details(report_data, trials.rows[place]) for place in places],
                "hovertemplate": f"trial %{{x}}, {state}<br>{text}{hyperparameters}",
                "yaxis": axis,
                "showlegend": state not in explained,
            }
            explained.add(state)
            yield marks(trials, state, chosen_N, trials.number_N, y_N, **more)


def _details(report_data: ReportData, row: Row) -> list[Any]:
    """Return epochs and hyperparameters for the hover text, numbers with four digits."""
    epochs = wording.counted(row.get("epochs") or 0, "epoch")
    return [epochs, *(_brief(row.get(PARAMS + name)) for name in report_data.axes)]


def _brief(value: object) -> object:
    if not known(value):
        return NOT_USED
    return float(f"{value:.4g}") if isinstance(value, float) else written(value)


def _best_line(report_data: ReportData, trials: Trials) -> Iterator[Trace]:
    """Yield a step line of the best value so far, up to half a trial beyond the last trial."""
    number_N, value_N = trials.number_N[trials.valued_N], trials.value_N[trials.valued_N]
    if not number_N.size:
        return
    lowest_N = np.minimum.accumulate(value_N)
    # Only where it falls: the line looks the same with far fewer points in the page.
    falls = np.flatnonzero(np.diff(lowest_N, prepend=np.inf))
    yield {
        # Like the points: WebGL would be drawn over a plain line.
        "type": kind_of(len(trials.rows)),
        "x": np.append(number_N[falls], trials.number_N[-1] + 0.5),
        "y": small(np.append(lowest_N[falls], lowest_N[-1])),
        "mode": "lines",
        "line": {"shape": "hv", "width": 2},
        "name": "best so far",
        "hovertemplate": f"best so far: {report_data.objective} %{{y:.4~g}}{END}",
    }


def _no_trials(report_data: ReportData) -> str:
    return "" if report_data.rows else "No trial has ended yet."


def _best_so_far_caption(report_data: ReportData) -> str:
    text = f"{counted(report_data)} on val by number, lower is better; the line is the best so far."
    if len(report_data.ranked()) < len(report_data.rows):
        text += " Trials without a value are marked at the top."
    if report_data.band is not None:
        text += (
            f" Green: {len(report_data.own)} retrained references against each other; within this "
            "band a trial cannot be distinguished from retraining."
        )
    return text


def learning_curves(report_data: ReportData) -> go.Figure:
    """Draw the objective of every trial by epoch, one trace per state, and mark where it ended."""
    states = {int(row["trial"]): str(row["state"]) for row in report_data.rows}
    values = [finite(value) for curve in report_data.curves.values() for value in curve.values()]
    axis = value_axis(objective_title(report_data), values, report_data.band or ())
    traces: list[Trace] = []
    kind = kind_of(len(report_data.curves))
    # One trace per state, not per trial: Plotly is slow with thousands of traces.
    for state in reversed(STATES):
        chosen = [n for n in sorted(report_data.curves) if states.get(n, "unfinished") == state]
        traces += (
            [{"type": kind, **t} for t in _curves(report_data, chosen, state)] if chosen else []
        )
    best = [row["trial"] for row in report_data.ranked() if row["trial"] in report_data.curves][:1]
    traces += [{"type": kind, **_best_curve(report_data, trial)} for trial in best]
    epochs: dict[str, Any] = {"title": {"text": "epoch"}}
    if max((epoch for curve in report_data.curves.values() for epoch in curve), default=0) <= FEW:
        epochs["dtick"] = 1
    return plotly_figure(
        traces, 460, xaxis=epochs, yaxis=axis, shapes=band_shapes(report_data, axis)
    )


def _curves(report_data: ReportData, chosen: Sequence[int], state: str) -> list[Trace]:
    """Return the curves of some trials as one trace, and their ends as another."""
    count = len(report_data.curves)
    size = size_among(count)
    epoch_P, value_P, trial_P = _joined(report_data, chosen)
    finite_P = np.flatnonzero(np.isfinite(value_P))
    # Where the next finite point belongs to another trial.
    last = finite_P[np.diff(trial_P[finite_P], append=-1) != 0]
    common = {
        "legendgroup": state,
        "hovertemplate": f"trial %{{customdata}}, {state}<br>epoch %{{x}}: %{{y:.4~g}}{END}",
    }
    lines = {
        "mode": "lines",
        "line": {"color": STATES[state]["color"], "width": 1.2 * size},
        "opacity": 0.7 * size**2,
        "showlegend": False,
    }
    return [
        {**common, **lines, "x": epoch_P, "y": value_P, "customdata": trial_P},
        {
            **common,
            **mark(state, count),
            "x": epoch_P[last],
            "y": value_P[last],
            "customdata": trial_P[last],
        },
    ]


def _best_curve(report_data: ReportData, trial: int) -> Trace:
    epoch_P, value_P, _ = _joined(report_data, [trial])
    return {
        "x": epoch_P,
        "y": value_P,
        "mode": "lines+markers",
        "line": {"width": 2.5},
        "marker": {**BEST_MARK, "size": 10},
        "name": f"best (trial {trial})",
        "hovertemplate": f"best, trial {trial}<br>epoch %{{x}}: %{{y:.4~g}}{END}",
    }


def _joined(
    report_data: ReportData, chosen: Sequence[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return epochs, values and numbers of trials, with a NaN between one curve and the next."""
    points: list[tuple[int, float | None, int]] = []
    for number in chosen:
        curve = sorted(report_data.curves[number].items())
        points += [(epoch, finite(value), number) for epoch, value in curve]
        # The gap needs a position, which must not stretch the axis.
        points.append((max(report_data.curves[number], default=1), None, number))
    epochs, values, numbers = zip(*points, strict=True)
    return np.array(epochs), small(np.array(values, dtype=np.float64)), np.array(numbers)


def _no_curves(report_data: ReportData) -> str:
    return "" if any(report_data.curves.values()) else "No epoch has been recorded yet."


def _curves_caption(report_data: ReportData) -> str:
    trials = number_of(len(report_data.curves))
    return (
        f"{report_data.objective} on val after each epoch of {trials}, lower is "
        "better; a mark shows where and how a trial ended, the thick line is the best."
    )


BEST_SO_FAR = Recipe(
    title="Best so far", draw=best_so_far, caption=_best_so_far_caption, missing=_no_trials
)
LEARNING_CURVES = Recipe(
    title="Learning curves", draw=learning_curves, caption=_curves_caption, missing=_no_curves
)
