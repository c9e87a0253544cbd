"""The objective of each trial of a search, by number."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mixunlearn.plain import finite
from report.notation import three_digits, unit_name
from report.plots.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PALE,
    VERMILION,
    WIDE,
    new_figure,
    write_picture,
)

STATES: dict[str, dict[str, Any]] = {
    "complete": {"marker": "o", "facecolors": BLUE, "edgecolors": "white", "s": 52},
    "pruned": {"marker": "v", "facecolors": "white", "edgecolors": ORANGE, "s": 40},
    "failed": {"marker": "x", "color": VERMILION, "s": 40},
}
LABELS = {"pruned": "pruned, at its last epoch"}
RAIL = 0.96  # height of the marks of trials without a value, as a fraction of the axes' height


@dataclass(frozen=True, kw_only=True)
class Point:
    """One trial of the search; `value` is None where it has no finite objective."""

    trial: int
    state: str
    value: float | None


def gap_by_trial(
    rows: Sequence[Mapping[str, object]],
    *,
    objective: str = "gap/avg",
    path: Path,
    band: tuple[float, float] | None,
    original: float | None,
) -> None:
    """Draw the objective of every trial, the best so far, the references and the original.

    Args:
        rows: trials as in trials.parquet, in any order.
        objective: the column to draw, smaller is better.
        path: the PNG file to write, atomically.
        band: lowest and highest objective of the references against each other.
        original: objective of the untouched original.
    """
    write_picture(gap_figure(rows, objective=objective, band=band, original=original), path)


def gap_figure(
    rows: Sequence[Mapping[str, object]],
    *,
    objective: str = "gap/avg",
    band: tuple[float, float] | None = None,
    original: float | None = None,
) -> Figure:
    """Return the figure that `gap_by_trial` writes; same arguments."""
    points = sorted(_points(rows, objective), key=lambda point: point.trial)
    figure = new_figure(width=8.0, height=4.6)
    axes = figure.add_subplot()
    _draw_trials(axes, points)
    best = _draw_best_so_far(axes, points)
    _draw_levels(axes, band, original)
    _scale(axes, [*(point.value for point in points), original], band or ())
    # After `_scale`: the rail stretches the final limits.
    _draw_rail(axes, [point for point in points if point.value is None])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=PALE, alpha=0.2)
    axes.set_title(_title(best, objective), loc="left", fontsize=11)
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{objective} ({unit_name(objective)})" if unit_name(objective) else objective)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if axes.get_legend_handles_labels()[0]:
        # Outside: a legend inside of the axes may cover trials.
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _title(best: Point | None, objective: str) -> str:
    if best is None:
        return "no trial with a result"
    return f"best: trial {best.trial}, {objective} {three_digits(best.value)}"


def _points(rows: Sequence[Mapping[str, object]], objective: str) -> Iterator[Point]:
    for row in rows:
        trial, state = int(str(row["trial"])), str(row["state"])
        yield Point(trial=trial, state=state, value=finite(row.get(objective)))


def _draw_levels(axes: Axes, band: tuple[float, float] | None, original: float | None) -> None:
    if band is not None:
        label = "references against each other"
        axes.axhspan(*band, color=GREEN, alpha=0.22, linewidth=0, label=label, zorder=0)
    if original is not None:
        axes.axhline(original, color=PALE, linestyle="--", label="original, untouched", zorder=1)


def _draw_trials(axes: Axes, points: Sequence[Point]) -> None:
    for state, style in STATES.items():
        drawn = [point for point in points if point.state == state]
        if drawn:  # trials without a value are not drawn here, but explained in the legend
            trials = [point.trial for point in drawn]
            # Matplotlib draws nothing at a NaN, but makes the entry in the legend.
            values = [math.nan if point.value is None else point.value for point in drawn]
            axes.scatter(trials, values, label=LABELS.get(state, state), zorder=3, **style)


def _draw_rail(axes: Axes, points: Sequence[Point]) -> None:
    """Mark trials without a value at the top: at the bottom a failure would look like the best."""
    if not points:
        return
    low, high = axes.get_ylim()
    logarithmic = axes.get_yscale() == "log"
    # Room above the data, so that no trial lies under the rail.
    axes.set_ylim(low, high * (high / low) ** 0.1 if logarithmic else high + 0.1 * (high - low))
    foot, whole = 2 * RAIL - 1, axes.transAxes
    strip = Rectangle((0, foot), 1, 1 - foot, transform=whole, facecolor=PALE, alpha=0.15)
    axes.add_patch(strip)
    axes.text(1.01, RAIL, "no value", transform=whole, va="center", fontsize=9)
    for point in points:
        across = axes.get_xaxis_transform()
        axes.scatter([point.trial], [RAIL], transform=across, zorder=3, **STATES[point.state])


def _draw_best_so_far(axes: Axes, points: Sequence[Point]) -> Point | None:
    """Draw the best value up to each trial; return the best trial of all.

    A trial that was stopped early counts: it is a configuration with fewer epochs.
    """
    # A failed trial's last value is not the result of a configuration that can be used.
    valued = [point for point in points if point.state != "failed" and point.value is not None]
    if not valued:
        return None
    best: list[Point] = []
    for point in valued:
        best.append(min([*best[-1:], point], key=_value))
    # Half a trial further: a step at the last trial would have no width.
    trials = [*(point.trial for point in valued), max(point.trial for point in points) + 0.5]
    values = [_value(point) for point in (*best, best[-1])]
    axes.step(trials, values, where="post", color=INK, label="best so far")
    return best[-1]


def _value(point: Point) -> float:
    return math.inf if point.value is None else point.value


def _scale(axes: Axes, values: Sequence[float | None], band: Sequence[float]) -> None:
    """Choose a logarithmic axis where a linear one would hide the good trials."""
    drawn = [value for value in values if value is not None]
    known = [*drawn, *band]
    positive = [value for value in known if value > 0]  # a band may reach zero, a point must not
    if min(drawn, default=1) > 0 and positive and max(positive) / min(positive) >= WIDE:
        axes.set_yscale("log")
        axes.set_ylim(min(positive) / 1.4, max(positive) * 1.4)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        # Matplotlib labels minor ticks over narrow ranges, where they would overlap the others.
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif known and min(known) >= 0:
        axes.set_ylim(0, max(known) * 1.08 or 1)
    elif not known:
        axes.set_yticks([])
