"""Forgetting compared with retaining.

Shape suffixes: N trials.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from mixunlearn.plain import finite
from report.interactive.panel import Recipe
from report.interactive.pieces import (
    Trace,
    Trials,
    highlights,
    kind_of,
    marks,
    number_of,
    plotly_figure,
    scale_axis,
    small,
    trials_of,
)
from report.interactive.scales import Floats, logarithmic, placed
from report.interactive.theme import END
from report.report_data import Axis, ReportData


def forgetting_against_retaining(report_data: ReportData) -> go.Figure:
    """Draw how close each trial is to the references in retaining and in forgetting.

    x axis: the gap of `acc/val_retain`; if a task has no such metric, because all its classes are
    retained, the mean gap of `acc/train_retain` and `acc/val`. y axis: the mean gap of
    `acc/train_forget`, `acc/val_forget` and `mia/asr`, as far as the task has them. These are the
    sides of the paper's table for either kind of task. The line is the Pareto front: no trial is
    better in both.
    """
    trials, sides = trials_of(report_data), _sides(report_data)
    gaps = [_mean_gap(trials, side) for side in sides]
    (x_axis, x_N), (y_axis, y_N) = (
        _gap_axis(gap_N, side) for gap_N, side in zip(gaps, sides, strict=True)
    )
    custom_N3 = small(np.column_stack([trials.number_N, *gaps]))
    text = f"<br>retaining %{{customdata[1]:.4~g}}<br>forgetting %{{customdata[2]:.4~g}}{END}"
    shown_N = trials.valued_N & np.isfinite(x_N + y_N)
    traces = []
    for state, chosen_N in trials.states(shown_N):
        more: Trace = {"customdata": custom_N3[chosen_N]}
        more["hovertemplate"] = f"trial %{{customdata[0]}}, {state}{text}"
        traces.append(marks(trials, state, chosen_N, x_N, y_N, **more))
    front = pareto_front(np.where(shown_N, x_N, np.nan), y_N)
    line = {"mode": "lines", "line": {"shape": "hv", "width": 1.5, "dash": "dot"}}
    look = {"type": kind_of(len(trials.rows)), **line, "name": "Pareto front", "hoverinfo": "skip"}
    traces.append({**look, "x": small(x_N[front]), "y": small(y_N[front])})
    traces += highlights(trials, x_N, y_N, END)
    return plotly_figure(traces, 520, xaxis=x_axis, yaxis=y_axis)


def _sides(report_data: ReportData) -> tuple[list[str], list[str]]:
    """Return the metrics of retaining and the metrics of forgetting."""

    def measured(metric: str) -> bool:
        return any(finite(row.get(f"gap/{metric}")) is not None for row in report_data.rows)

    def found(*metrics: str) -> list[str]:
        return list(filter(measured, metrics))

    retain = found("acc/val_retain") or found("acc/train_retain", "acc/val")
    return retain, found("acc/train_forget", "acc/val_forget", "mia/asr")


def _mean_gap(trials: Trials, metrics: Sequence[str]) -> Floats:
    """Return the mean gap of some metrics by trial; NaN if one of them is missing."""
    gaps = [[finite(row.get(f"gap/{metric}")) for metric in metrics] for row in trials.rows]
    found = np.array(gaps, dtype=np.float64).reshape(len(trials.rows), len(metrics))
    # NaN if one is missing: means over different metrics cannot be compared.
    return found.mean(axis=1) if metrics else np.full(len(trials.rows), np.nan)


def _gap_axis(gap_N: Floats, metrics: Sequence[str]) -> tuple[dict[str, Any], Floats]:
    """Return an axis and positions on it; on a logarithmic one, zero has a tick below the rest."""
    mean = "mean gap" if len(metrics) > 1 else "gap"
    title = f"{mean} of {', '.join(metrics)}<br>(percentage points)"
    positive = gap_N[gap_N > 0].tolist()
    if not logarithmic(positive):
        return {"rangemode": "tozero", "title": {"text": title}}, gap_N
    # A trial without this gap has no place; a gap of zero has one.
    known_N = np.isfinite(gap_N)
    above = [gap or None for gap in gap_N[known_N].tolist()]  # zero has no logarithm
    scale = placed(Axis(low=min(positive), high=max(positive), log=True), above, absent="0")
    at_N = np.full(len(gap_N), np.nan)
    at_N[known_N] = scale.values_N
    return scale_axis(scale, title), at_N


def pareto_front(x_N: Floats, y_N: Floats) -> npt.NDArray[np.int64]:
    """Return the points for which no other is at least equal in both values and better in one.

    Args:
        x_N: first value, lower is better; a point with a NaN is never part of the front.
        y_N: second value, lower is better.

    Returns:
        Indices of these points, from left to right.
    """
    front: list[int] = []
    # From left to right, a point is on the front if it is lower than all before it, or a duplicate.
    for point in np.lexsort((y_N, x_N)).tolist():
        if not np.isfinite(x_N[point] + y_N[point]):
            continue
        last = front[-1] if front else None
        equal = last is not None and (x_N[point], y_N[point]) == (x_N[last], y_N[last])
        if last is None or equal or y_N[point] < y_N[last]:
            front.append(point)
    return np.array(front, dtype=np.int64)


def _no_sides(report_data: ReportData) -> str:
    trials = trials_of(report_data)
    retain_N, forget_N = (_mean_gap(trials, side) for side in _sides(report_data))
    if (np.isfinite(retain_N + forget_N) & trials.valued_N).any():
        return ""
    return "No trial has both a gap for retaining and a gap for forgetting."


def _sides_caption(report_data: ReportData) -> str:
    return (
        f"{number_of(len(report_data.ranked()))} on val: distance to the references in retaining "
        "(x axis) and in forgetting (y axis); the lower left corner is best. On the dotted Pareto "
        "front, one side improves only if the other gets worse. Star: best, square: default."
    )


FORGETTING_AGAINST_RETAINING = Recipe(
    title="Forgetting against retaining",
    draw=forgetting_against_retaining,
    caption=_sides_caption,
    missing=_no_sides,
)
