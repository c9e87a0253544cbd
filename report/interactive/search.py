"""The search as figures: trial by trial, and epoch by epoch.

Shape suffixes: N trials, P points of joined curves.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

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
from report.interactive.theme import BEST, END, GREY, NO_VALUE, NOT_USED, STATES
from report.notation import finite
from report.report_data import PARAMS, ReportData, Row

FEW = 8  # trials or epochs up to which each has its tick


def best_so_far(review: ReportData) -> go.Figure:
    """Draw the objective of each trial in order of number, and the best up to it.

    A trial that was stopped early counts: it is a configuration with fewer epochs. Trials without
    a value stand in a strip on top, since at the bottom a failure would look like the best.
    """
    trials = trials_of(review)
    axis = value_axis(
        objective_title(review), [*trials.value_N, review.original], review.band or ()
    )
    shapes = band_shapes(review, axis)
    if review.original is not None:
        line = {"color": GREY, "dash": "dash", "width": 1.5}
        across = {"xref": "paper", "x0": 0, "x1": 1, "y0": review.original, "y1": review.original}
        name = {"name": "original, untouched", "showlegend": True, "layer": "below"}
        shapes.append({"type": "line", "line": line, **across, **name})
    layout: dict[str, Any] = {"xaxis": {"title": {"text": "trial"}}, "yaxis": axis}
    if len(trials.rows) <= FEW:
        layout["xaxis"]["dtick"] = 1
    if not trials.valued_N.all():
        axis["domain"] = [0, 0.9]
        strip = {"domain": [0.93, 1], "range": [-1, 1], "tickvals": [0], "ticktext": [NO_VALUE]}
        layout["yaxis2"] = {**strip, "showgrid": False}
    traces = [*_search_marks(review, trials), *_best_line(review, trials)]
    return plotly_figure(traces, 460, shapes=shapes, **layout)


def _search_marks(review: ReportData, trials: Trials) -> Iterator[Trace]:
    """Yield the trials by state, first those with a value, then those in the strip above."""
    parts = [f"<br>{name} %{{customdata[{place}]}}" for place, name in enumerate(review.axes, 1)]
    parameters = f"<br>%{{customdata[0]}} epochs{''.join(parts)}{END}"
    value = f"{review.objective} %{{y:.4~g}}"
    rail_N = np.zeros(len(trials.rows))
    explained: set[str] = set()
    for shown_N, y_N, axis, text in (
        (trials.valued_N, trials.value_N, "y", value),
        (~trials.valued_N, rail_N, "y2", NO_VALUE),
    ):
        for state, chosen_N in trials.states(shown_N):
            places = np.flatnonzero(chosen_N).tolist()
            more = {
                "customdata": [_details(review, trials.rows[place]) for place in places],
                "hovertemplate": f"trial %{{x}}, {state}<br>{text}{parameters}",
                "yaxis": axis,
                "showlegend": state not in explained,
            }
            explained.add(state)
            yield marks(trials, state, chosen_N, trials.number_N, y_N, **more)


def _details(review: ReportData, row: Row) -> list[Any]:
    """Return epochs and hyperparameters as the hover has them, numbers with four digits."""
    return [row.get("epochs"), *(_brief(row.get(PARAMS + name)) for name in review.axes)]


def _brief(value: object) -> object:
    if not known(value):
        return NOT_USED
    return float(f"{value:.4g}") if isinstance(value, float) else written(value)


def _best_line(review: ReportData, trials: Trials) -> Iterator[Trace]:
    """Yield a step line of where the best falls, up to half a trial beyond the last."""
    number_N, value_N = trials.number_N[trials.valued_N], trials.value_N[trials.valued_N]
    if not number_N.size:
        return
    lowest_N = np.minimum.accumulate(value_N)
    falls = np.flatnonzero(np.diff(lowest_N, prepend=np.inf))
    yield {
        "type": kind_of(len(trials.rows)),
        "x": np.append(number_N[falls], trials.number_N[-1] + 0.5),
        "y": small(np.append(lowest_N[falls], lowest_N[-1])),
        "mode": "lines",
        "line": {"shape": "hv", "width": 2},
        "name": "best so far",
        "hovertemplate": f"best so far: {review.objective} %{{y:.4~g}}{END}",
    }


def _no_trials(review: ReportData) -> str:
    return "" if review.rows else "No trial has ended yet."


def _best_so_far_caption(review: ReportData) -> str:
    text = f"{counted(review)} on val by number, lower is better; the line is the best so far."
    if len(review.ranked()) < len(review.rows):
        text += " Trials without a value are marked on top."
    if review.band is not None:
        text += (
            f" Green is what {len(review.own)} retrained references score against each other: "
            "within it a trial cannot be told from retraining."
        )
    return text


def learning_curves(review: ReportData) -> go.Figure:
    """Draw the objective of every trial by epoch, one trace a state, and mark where they ended."""
    states = {int(row["trial"]): str(row["state"]) for row in review.rows}
    values = [finite(value) for curve in review.curves.values() for value in curve.values()]
    axis = value_axis(objective_title(review), values, review.band or ())
    traces: list[Trace] = []
    kind = kind_of(len(review.curves))
    for state in reversed(STATES):
        chosen = [n for n in sorted(review.curves) if states.get(n, "unfinished") == state]
        traces += [{"type": kind, **t} for t in _curves(review, chosen, state)] if chosen else []
    best = [row["trial"] for row in review.ranked() if row["trial"] in review.curves][:1]
    traces += [{"type": kind, **_best_curve(review, trial)} for trial in best]
    epochs: dict[str, Any] = {"title": {"text": "epoch"}}
    if max((epoch for curve in review.curves.values() for epoch in curve), default=0) <= FEW:
        epochs["dtick"] = 1
    return plotly_figure(traces, 460, xaxis=epochs, yaxis=axis, shapes=band_shapes(review, axis))


def _curves(review: ReportData, chosen: Sequence[int], state: str) -> list[Trace]:
    """Return the curves of some trials as one trace, and their ends as another."""
    count = len(review.curves)
    size = size_among(count)
    epoch_P, value_P, trial_P = _joined(review, chosen)
    finite_P = np.flatnonzero(np.isfinite(value_P))
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


def _best_curve(review: ReportData, trial: int) -> Trace:
    epoch_P, value_P, _ = _joined(review, [trial])
    return {
        "x": epoch_P,
        "y": value_P,
        "mode": "lines+markers",
        "line": {"width": 2.5},
        "marker": {**BEST, "size": 10},
        "name": f"best (trial {trial})",
        "hovertemplate": f"best, trial {trial}<br>epoch %{{x}}: %{{y:.4~g}}{END}",
    }


def _joined(
    review: ReportData, chosen: Sequence[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return epochs, values and numbers of trials, with a NaN between one curve and the next."""
    points: list[tuple[int, float | None, int]] = []
    for number in chosen:
        curve = sorted(review.curves[number].items())
        points += [(epoch, finite(value), number) for epoch, value in curve]
        points.append((max(review.curves[number], default=1), None, number))
    epochs, values, numbers = zip(*points, strict=True)
    return np.array(epochs), small(np.array(values, dtype=np.float64)), np.array(numbers)


def _no_curves(review: ReportData) -> str:
    return "" if any(review.curves.values()) else "No epoch has been recorded yet."


def _curves_caption(review: ReportData) -> str:
    return (
        f"{review.objective} on val after each epoch of {number_of(len(review.curves))}, lower is "
        "better; a mark shows where and how a trial ended, the thick line is the best."
    )


BEST_SO_FAR = Recipe(
    title="Best so far", draw=best_so_far, caption=_best_so_far_caption, missing=_no_trials
)
LEARNING_CURVES = Recipe(
    title="Learning curves", draw=learning_curves, caption=_curves_caption, missing=_no_curves
)
