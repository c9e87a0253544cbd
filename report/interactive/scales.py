"""Positions of values along an axis: numbers, logarithms, options, and missing values.

Shape suffixes: N trials, T ticks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from mixunlearn.plain import finite
from report.plots.drawing import WIDE
from report.report_data import Axis

Floats: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Placed: TypeAlias = tuple[Floats, Floats, list[float], list[str]]

APART = 0.15  # distance of missing values from the others, as a fraction of the axis
MARGIN = 0.04  # beyond the outermost values, as a fraction of the axis
NARROW = 2.5  # up to so many decades, 2 and 5 have ticks as well


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The positions of N values along an axis.

    Args:
        at_N: positions: numbers, their decimal logarithms, or indices of options from 0.
        used_N: which have a value; the others are placed apart.
        ticks_T: positions of the ticks.
        labels: T texts, in the values' own unit.
        low, high: ends of the axis.
        log: whether positions are logarithms.
        numeric: whether the values are numbers.
    """

    at_N: Floats
    used_N: Flags
    ticks_T: Floats
    labels: Sequence[str]
    low: float
    high: float
    log: bool
    numeric: bool

    @property
    def values_N(self) -> Floats:
        """Positions for an axis that computes logarithms itself."""
        return self.unscaled(self.at_N)

    def unscaled(self, at: Floats) -> Floats:
        """Return the values at some positions."""
        return np.power(10.0, at) if self.log else at


def placed(axis: Axis, values: Sequence[Any], *, absent: str, above: bool = False) -> Scale:
    """Return the positions of N values; `None` and NaN are placed apart, with their own tick.

    Args:
        axis: how they vary.
        values: one per trial.
        absent: label of the tick of missing values.
        above: whether missing values are placed beyond the high end instead of the low one.
    """
    # Numbers that were stored as text are drawn as a choice.
    numeric = axis.low is not None and all(isinstance(each, int | float | None) for each in values)
    at_N, ends, ticks, labels = (_numbers if numeric else _options)(axis, values)
    low, high = float(ends.min()), float(ends.max())
    # A single value has no length, and fractions of it would put everything on one spot.
    length = high - low or 1.0
    used_N = np.isfinite(at_N)
    if not used_N.all():
        aside = high + APART * length if above else low - APART * length
        at_N, ticks, labels = np.where(used_N, at_N, aside), [*ticks, aside], [*labels, absent]
        low, high = min(low, aside), max(high, aside)
    return Scale(
        at_N=at_N,
        used_N=used_N,
        ticks_T=np.array(ticks, dtype=np.float64),
        labels=labels,
        low=low - MARGIN * length,
        high=high + MARGIN * length,
        log=numeric and axis.log,
        numeric=numeric,
    )


def _numbers(axis: Axis, values: Sequence[Any]) -> Placed:
    """Return positions, the outermost of them and of the bounds, ticks and their labels."""
    at_N = np.array([finite(value) for value in values], dtype=np.float64)
    bounds = np.array([axis.low, axis.high], dtype=np.float64)
    if axis.log:
        at_N, bounds = np.log10(at_N), np.log10(bounds)
    ends = np.append(bounds, at_N[np.isfinite(at_N)])
    ticks = (_decades if axis.log else _evenly)(ends.min(), ends.max())
    return at_N, ends, ticks, [written(10**tick if axis.log else tick) for tick in ticks]


def _options(axis: Axis, values: Sequence[Any]) -> Placed:
    """Return the same for a choice: its options and any other values, side by side."""
    # Values that are no options any more have a place too: no trial may be missing.
    names = list(dict.fromkeys(map(written, [*axis.options, *filter(known, values)])))
    places = {name: float(place) for place, name in enumerate(names)}
    at_N = np.array([places.get(written(value)) for value in values], dtype=np.float64)
    return at_N, np.array([-0.5, len(names) - 0.5]), list(places.values()), names


def _evenly(low: float, high: float) -> list[float]:
    found = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in found if low <= tick <= high]


def _decades(low: float, high: float) -> list[float]:
    steps = np.log10([1, 2, 5] if high - low < NARROW else [1])
    found = np.add.outer(np.arange(np.floor(low), np.ceil(high) + 1), steps).ravel().tolist()
    slack = 1e-9  # rounding must not drop a bound that is a tick
    # Without a tick inside, the ends have one.
    return [tick for tick in found if low - slack <= tick <= high + slack] or [low, high]


def known(value: object) -> bool:
    """Return whether there is a value: neither `None` nor NaN."""
    return value is not None and not (isinstance(value, float) and np.isnan(value))


def written(value: object) -> str:
    """Return a value as the label of a tick: 0.0001, 2e-6, True, any."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.6g}".replace("e-0", "e-").replace("e+0", "e")


def logarithmic(values: Sequence[float | None], band: Sequence[float] = ()) -> bool:
    """Return whether a linear axis would hide the good trials, by the rule of `report.plots`."""
    drawn = [value for value in values if value is not None and np.isfinite(value)]
    positive = [value for value in (*drawn, *band) if value > 0]  # a band may reach zero
    return min(drawn, default=0.0) > 0 and max(positive) / min(positive) >= WIDE
