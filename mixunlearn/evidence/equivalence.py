"""Tests whether unlearned models are equivalent to retrained ones, metric by metric.

Both kinds are samples: of the originals that are unlearned, and of the seeds that are retrained.
The bias of a metric is the difference of the two means. Its standard error and degrees of freedom
are those of Welch (1947, Biometrika 34, 28-35). Two one-sided tests at 5 % (Schuirmann 1987,
J. Pharmacokinet. Biopharm. 15, 657-680) show equivalence: the 90 % interval lies inside ± margin.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import stats

from mixunlearn.metrics.groups import holm

LEAST = 3  # models of each kind; with fewer, their spread is not known
LEVEL = 0.05  # error probability of each test
POWER = 0.8  # with which the detectable bias is detected
MOST = 1000  # models of each kind that a plan could reasonably ask for

State: TypeAlias = Literal["equivalent", "different", "undecided", "unknown"]
Values: TypeAlias = Mapping[str, Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Bias:
    """How far unlearned models are from retrained ones in one metric, in its unit.

    Args:
        metric: its name.
        value: mean of the unlearned models − mean of the retrained ones.
        low, high: 90 % interval of the bias; infinite if the spread is unknown.
        margin: the largest bias that counts as equivalent.
        p: probability of a bias at least this large if there is none; Holm-corrected over all
            metrics. NaN if the spread is unknown.
        detectable: the bias that these numbers of models find to be different in 80 % of cases.
        models: number of models of each kind that would decide, if mean and spread stay as they
            are; `None` if it is decided, or if more than 1000 would be needed.
        state: "equivalent", "different", "undecided", or "unknown" if there are fewer than three
            models of a kind.
    """

    metric: str
    value: float
    low: float
    high: float
    margin: float
    p: float
    detectable: float
    models: int | None
    state: State


def biases(unlearned: Values, retrained: Values, margins: Mapping[str, float]) -> list[Bias]:
    """Return the bias of each metric that has a margin.

    All of them must be equivalent for the models to be (intersection-union test), so their levels
    need no correction. That one of them differs is claimed only after Holm's correction.

    Args:
        unlearned: metric -> one value for each unlearned original.
        retrained: metric -> one value for each retrained model.
        margins: metric -> margin, > 0, in the metric's unit.

    Raises:
        KeyError: a metric has a margin but no values.
    """
    found = [_bias(name, unlearned[name], retrained[name], margins) for name in margins]
    corrected = holm([bias.p for bias in found])
    return [_judged(replace(bias, p=p)) for bias, p in zip(found, corrected, strict=True)]


def _bias(
    metric: str,
    unlearned: Sequence[float],
    retrained: Sequence[float],
    margins: Mapping[str, float],
) -> Bias:
    y, r = np.asarray(unlearned, float), np.asarray(retrained, float)
    value, margin = float(y.mean() - r.mean()), margins[metric]
    known = Bias(
        metric=metric,
        value=value,
        low=-math.inf,
        high=math.inf,
        margin=margin,
        p=math.nan,
        detectable=math.inf,
        models=None,
        state="unknown",
    )
    if min(len(y), len(r)) < LEAST:
        return known
    variances = float(y.var(ddof=1)), float(r.var(ddof=1))
    if not any(variances):  # all models of each kind are alike: the means are exact
        return replace(known, low=value, high=value, p=float(not value), detectable=0.0)
    error, freedom = map(float, _welch(*variances, len(y), len(r)))
    half = float(stats.t.ppf(1 - LEVEL, freedom)) * error
    return replace(
        known,
        low=value - half,
        high=value + half,
        p=2 * float(stats.t.sf(abs(value) / error, freedom)),
        detectable=float(stats.t.ppf(1 - LEVEL / 2, freedom) + stats.t.ppf(POWER, freedom)) * error,
        models=_models(value, margin, *variances, more=min(len(y), len(r)), metrics=len(margins)),
    )


def _welch(variance_y: float, variance_r: float, y: Any, r: Any) -> tuple[Any, Any]:  # noqa: ANN401 - numbers or arrays
    """Return the standard error of a difference of means, and its degrees of freedom.

    Args:
        variance_y: of single models of one kind.
        variance_r: of the other kind; one of both is not 0.
        y: number of models of one kind.
        r: of the other kind.
    """
    of_y, of_r = variance_y / y, variance_r / r
    total = of_y + of_r
    return np.sqrt(total), total**2 / (of_y**2 / (y - 1) + of_r**2 / (r - 1))


def _models(
    value: float,
    margin: float,
    variance_y: float,
    variance_r: float,
    *,
    more: int,
    metrics: int,
) -> int | None:
    """Return how many models of each kind would decide: more than there are."""
    counts = np.arange(more + 1, MOST + 1)
    error, freedom = _welch(variance_y, variance_r, counts, counts)
    equivalent = abs(value) + stats.t.ppf(1 - LEVEL, freedom) * error < margin
    # Holm's correction multiplies by the number of metrics at most.
    different = 2 * stats.t.sf(abs(value) / error, freedom) < LEVEL / metrics
    decided = np.flatnonzero(equivalent | different)
    return int(counts[decided[0]]) if len(decided) else None


def _judged(bias: Bias) -> Bias:
    """Return the bias with its state."""
    if math.isnan(bias.p):
        return bias
    # Equivalence first: a bias can be certain and yet too small to matter.
    if -bias.margin < bias.low and bias.high < bias.margin:
        return replace(bias, state="equivalent", models=None)
    if bias.p < LEVEL:
        return replace(bias, state="different", models=None)
    return replace(bias, state="undecided")
