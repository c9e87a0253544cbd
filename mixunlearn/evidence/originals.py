"""Unlearned models against their own untouched originals: nearer to retraining, changed, harmed.

Each unlearned model is paired with the original that it was made from. Shape suffixes: O originals,
R references, M metrics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mixunlearn.evidence.equivalence import Values, enough
from mixunlearn.evidence.estimate import estimate
from mixunlearn.metrics.groups import holm

Kind: TypeAlias = Literal["forgetting", "attack", "utility"]
Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """How much nearer to retraining unlearned models are than their untouched originals.

    Distances are averages over metrics, each in units of its margin.

    Args:
        kind: the metrics: "forgetting", "attack", or "average" for all.
        mean: the mean improvement; positive is nearer.
        p_better, p_worse: one-sided probabilities of so much if there is no difference.
        p_far: the same if they are farther by one margin: small if it is shown to be more.
    """

    kind: str
    mean: float
    p_better: float
    p_worse: float
    p_far: float


@dataclass(frozen=True, kw_only=True)
class Change:
    """What unlearning has changed in one metric, in its unit.

    Args:
        metric: its name.
        value: mean of unlearned model − own original.
        low, high: its 90 % interval (paired).
        margin: the metric's margin.
        p_harm: only of utility: the probability of so low values if they are not below retraining
            by more than the margin, or not below the own originals; Holm-corrected over the
            metrics of utility. `None` for other metrics.
    """

    metric: str
    value: float
    low: float
    high: float
    margin: float
    p_harm: float | None = None

    @property
    def none(self) -> bool:
        """Return whether the change is shown to be within the margin."""
        return -self.margin < self.low and self.high < self.margin


def kind_of(metric: str) -> Kind:
    """Return what a metric shows: forgetting, an attack's success, or utility."""
    if metric.startswith("mia/"):
        return "attack"
    utility = metric.startswith("acc/") and "forget" not in metric
    return "utility" if utility else "forgetting"


def changes(
    unlearned: Values, untouched: Values, retrained: Values, margins: Mapping[str, float]
) -> list[Change]:
    """Return what unlearning has changed, by metric; empty with fewer than three models of a kind.

    A loss of utility is harm only if both tests show it, against retraining and against the own
    originals (intersection-union test); so an original that is no better is not held against the
    unlearning. See `judge` for the arguments.
    """
    if not all(enough(unlearned[name], retrained[name]) for name in margins):
        return []
    paired = {name: np.subtract(unlearned[name], untouched[name]) for name in margins}
    utility = [name for name in margins if kind_of(name) == "utility"]
    raw = [
        max(
            estimate(unlearned[name], np.negative(retrained[name])).below(-margins[name]),
            estimate(paired[name]).below(),
        )
        for name in utility
    ]
    harm = dict(zip(utility, holm(raw), strict=True))
    found = []
    for name, margin in margins.items():
        change = estimate(paired[name])
        low, high = change.interval
        known = {"value": change.value, "low": low, "high": high, "margin": margin}
        found.append(Change(metric=name, **known, p_harm=harm.get(name)))
    return found


def improvements(
    unlearned: Values, untouched: Values, retrained: Values, margins: Mapping[str, float]
) -> list[Improvement]:
    """Return the improvements; empty with fewer than three models of a kind.

    See `judge` for the arguments. The references' mean is an estimate as well: its part of the
    error is that of the jackknife, which leaves out one reference after the other (Tukey 1958,
    Ann. Math. Stat. 29, 614; Efron and Tibshirani 1993, An Introduction to the Bootstrap, ch. 11).
    """
    if not all(enough(unlearned[name], retrained[name]) for name in margins):
        return []
    kinds = np.array([kind_of(name) for name in margins])
    columns = {
        "forgetting": kinds == "forgetting",
        "attack": kinds == "attack",
        "average": np.full(len(kinds), fill_value=True),
    }
    y_OM, u_OM, r_RM = (
        np.stack([np.asarray(values[name], float) / margins[name] for name in margins], axis=1)
        for values in (unlearned, untouched, retrained)
    )
    return [
        _improvement(kind, y_OM[:, chosen], u_OM[:, chosen], r_RM[:, chosen])
        for kind, chosen in columns.items()
        if chosen.any()
    ]


def _improvement(kind: str, y_OM: Array, u_OM: Array, r_RM: Array) -> Improvement:
    count = len(r_RM)
    gains_O = _gains(y_OM, u_OM, r_RM.mean(axis=0))
    without_RM = (r_RM.sum(axis=0) - r_RM) / (count - 1)
    left_R = _gains(y_OM, u_OM, without_RM[:, None]).mean(axis=1)
    # Their mean is 0: they add an error, no value.
    influence_R = (count - 1) * (left_R.mean() - left_R)
    found = estimate(gains_O, influence_R)
    return Improvement(
        kind=kind,
        mean=found.value,
        p_better=found.above(),
        p_worse=found.below(),
        p_far=found.below(-1.0),
    )


def _gains(y_OM: Array, u_OM: Array, mean_M: Array) -> Any:  # noqa: ANN401 - an array
    """Return by how much each unlearned model is nearer to retraining, averaged over metrics.

    Args:
        y_OM: unlearned models, in margins.
        u_OM: their originals.
        mean_M: of the references; or several means, of the shape (R, 1, M).

    Returns:
        Gains of the shape (O,), or (R, O).
    """
    return (np.abs(u_OM - mean_M) - np.abs(y_OM - mean_M)).mean(axis=-1)
