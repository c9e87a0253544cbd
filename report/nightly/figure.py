"""The champion's gap, night by night, as a figure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from report.nightly.record import UNDECIDED, Record, numbers_in, parts_of, text_of, verdict_of
from report.notation import ABSENT
from report.plots.drawing import BLUE, GREEN, INK, PALE, VERMILION, new_figure

WIDTH, HEIGHT = 5.2, 4.6  # inches: narrow, to be read on a phone
CONFIDENCE = 0.95
TICKS = 5  # at most so many dates are written
BESIDE = 0.25  # days that seeds are drawn before their mean: its interval would hide them
HEADROOM = 1.25  # stretches the axis, to make room for the names of new champions
LONGEST_INTERVAL = 1.5  # times the largest value; with two seeds it would hide everything else
LONGEST_NAME = 60  # of an experiment, in characters
MARKS: dict[str, dict[str, Any]] = {
    "unchanged": {"marker": "o", "facecolors": BLUE, "edgecolors": BLUE, "s": 26},
    "inconclusive": {"marker": "o", "facecolors": "white", "edgecolors": BLUE, "s": 26},
    "improved": {"marker": "*", "facecolors": GREEN, "edgecolors": INK, "s": 130},
    "regressed": {"marker": "X", "facecolors": VERMILION, "edgecolors": INK, "s": 75},
    UNDECIDED: {"marker": "s", "facecolors": "white", "edgecolors": INK, "s": 22},
}


@dataclass(frozen=True, kw_only=True)
class Point:
    """A night of the figure.

    Args:
        day: its date, as `date.toordinal` counts.
        gaps: the champion's gaps, one per seed.
        band: lowest and highest of the references' own gaps; NaN if unknown.
        word: the verdict.
        reign: nights of one reign have the same champion, data and recipe.
        key: key of the champion.
    """

    day: int
    gaps: Sequence[float]
    band: tuple[float, float]
    word: str
    reign: str
    key: str

    @property
    def mean(self) -> float:
        """Return the mean gap; NaN without gaps."""
        return float(np.mean(self.gaps)) if self.gaps else math.nan

    @property
    def reach(self) -> float:
        """Return half the width of the mean's interval; NaN for fewer than two seeds."""
        count = len(self.gaps)
        if count < 2:  # noqa: PLR2004
            return math.nan
        factor = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
        return factor * float(np.std(self.gaps, ddof=1)) / math.sqrt(count)


def trend_figure(nights: Sequence[Record], experiment: str) -> Figure:
    """Return a figure of the champion's gap by night, together with the references' own gaps.

    Args:
        nights: in order of date; dates without a night, or without gaps, stay empty.
        experiment: name of the experiment.
    """
    points = points_of(nights, experiment)
    figure = new_figure(width=WIDTH, height=HEIGHT)
    axes = figure.add_subplot()
    _draw_band(axes, points)
    _draw_means(axes, points)
    _draw_verdicts(axes, points)
    # Before `_draw_changes`, which makes room above these limits.
    _limit(axes, points)
    _draw_changes(axes, points)  # after `_limit`, whose axis it stretches
    _draw_failures(axes, nights)
    _draw_dates(axes, nights)
    short = experiment if len(experiment) <= LONGEST_NAME else f"{experiment[: LONGEST_NAME - 1]}…"
    axes.set_title(short, loc="left", fontsize=11, parse_math=False)  # it may contain dollar signs
    axes.set_ylabel("gap/avg, percentage points")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=PALE, alpha=0.2)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)
    return figure


def points_of(nights: Sequence[Record], experiment: str) -> list[Point]:
    """Return a point for each date on which the experiment was measured, in order."""
    # The last record of a date counts: a forced night replaces the one before.
    found = {
        _day(night): _point(night, each)
        for night in nights
        for each in parts_of(night)
        if text_of(each.get("name")) == experiment
    }
    return [found[day] for day in sorted(found)]


def _day(night: Record) -> int:
    return date.fromisoformat(str(night["date"])).toordinal()


def _point(night: Record, experiment: Record) -> Point:
    own = numbers_in((experiment.get("references") or {}).get("values"))
    return Point(
        day=_day(night),
        gaps=numbers_in(experiment.get("gaps")),
        band=(min(own), max(own)) if own else (math.nan, math.nan),
        word=verdict_of(night, experiment),
        reign=text_of(experiment.get("reign")),
        key=text_of((experiment.get("champion") or {}).get("key")),
    )


def _draw_band(axes: Axes, points: Sequence[Point]) -> None:
    known = {point.day: point.band for point in points if math.isfinite(point.band[0])}
    if not known:
        return
    days = range(min(known), max(known) + 1)
    # NaN at nights that are missing: the band must not claim anything about them.
    lows, highs = np.transpose([known.get(day, (math.nan, math.nan)) for day in days])
    edges = np.arange(days[0], days[-1] + 2) - 0.5
    style: dict[str, Any] = {"color": GREEN, "alpha": 0.22, "zorder": 0}
    label = "references against each other"
    axes.stairs(highs, edges, baseline=lows, fill=True, linewidth=1, label=label, **style)


def _draw_means(axes: Axes, points: Sequence[Point]) -> None:
    """Draw seeds, means and intervals; a line joins consecutive nights of one reign."""
    measured = {point.day: point for point in points if point.gaps}
    if not measured:
        return
    seeds = [(point.day - BESIDE, gap) for point in measured.values() for gap in point.gaps]
    nights, gaps = np.transpose(seeds)
    axes.scatter(nights, gaps, s=7, color=PALE, alpha=0.6, linewidths=0, label="one seed")
    known = list(measured.values())
    axes.errorbar(
        [point.day for point in known],
        [point.mean for point in known],
        yerr=[point.reach for point in known],
        fmt="none",
        ecolor=BLUE,
        elinewidth=1,
        capsize=1.5,
        label=f"mean, {100 * CONFIDENCE:.0f} % interval",
    )
    days = range(min(measured), max(measured) + 1)
    for reign in dict.fromkeys(point.reign for point in known):
        own = {point.day: point.mean for point in known if point.reign == reign}
        # NaN: the line must not bridge a missing night. `_` keeps it out of the legend.
        means = [own.get(day, math.nan) for day in days]
        axes.plot(days, means, color=BLUE, linewidth=1, alpha=0.6, label="_")


def _draw_verdicts(axes: Axes, points: Sequence[Point]) -> None:
    for word in dict.fromkeys([*MARKS, *(point.word for point in points)]):
        drawn = [point for point in points if point.word == word and point.gaps]
        if drawn:
            style = MARKS.get(word, MARKS[UNDECIDED])
            days, means = [point.day for point in drawn], [point.mean for point in drawn]
            axes.scatter(days, means, label=word, zorder=4, linewidths=0.9, **style)


def _limit(axes: Axes, points: Sequence[Point]) -> None:
    """Start at zero and show all seeds and references; cut off intervals that would hide them."""
    values = [value for point in points for value in (*point.gaps, *point.band)]
    largest = max(filter(math.isfinite, values), default=0.0)
    ends = [point.mean + point.reach for point in points]
    longest = max(filter(math.isfinite, ends), default=0.0)
    axes.set_ylim(0, 1.08 * max(largest, min(longest, LONGEST_INTERVAL * largest)) or 1)


def _draw_changes(axes: Axes, points: Sequence[Point]) -> None:
    """Draw a line where a new reign begins, labelled with its champion's key."""
    reigns = [point for point in points if point.key != ABSENT]
    changes = [after for before, after in pairwise(reigns) if after.reign != before.reign]
    if not changes:
        return
    axes.set_ylim(0, HEADROOM * axes.get_ylim()[1])
    for number, point in enumerate(changes):
        label = "_" if number else "another champion, data or recipe"
        # Half a day before: between the old reign's last night and the new one's first.
        axes.axvline(point.day - 0.5, color=INK, linewidth=0.8, linestyle=":", label=label)
        axes.text(
            point.day - 0.4,
            0.99,
            point.key,
            transform=axes.get_xaxis_transform(),
            rotation=90,
            va="top",
            fontsize=7.5,
            color=INK,
            parse_math=False,
        )


def _draw_failures(axes: Axes, nights: Sequence[Record]) -> None:
    """Mark failed nights on the axis: they have no value to draw."""
    days = [_day(night) for night in nights if night.get("state") == "failed"]
    if days:
        style: dict[str, Any] = {"marker": "x", "color": INK, "s": 22, "linewidths": 1.2}
        across = axes.get_xaxis_transform()
        axes.scatter(days, [0.025] * len(days), transform=across, label="failed night", **style)


def _draw_dates(axes: Axes, nights: Sequence[Record]) -> None:
    """Write dates at whole nights, always including the last one."""
    days = sorted(map(_day, nights))
    step = max(1, math.ceil((days[-1] - days[0] + 1) / TICKS))
    # From the last night backwards: that one must have a tick.
    ticks = range(days[-1], days[0] - 1, -step)
    axes.set_xlim(days[0] - 0.8, days[-1] + 0.8)
    axes.set_xticks(ticks, [f"{date.fromordinal(tick):%d %b}" for tick in ticks])
    years = dict.fromkeys(str(date.fromordinal(day).year) for day in (days[0], days[-1]))
    axes.set_xlabel(f"night, {'–'.join(years)}")
