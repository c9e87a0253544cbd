"""The verdict on an unlearning: is it like retraining, and is it better than doing nothing?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import stats

from mixunlearn.evidence.equivalence import LEAST, LEVEL, Bias, Values, biases
from mixunlearn.metrics.table import metric_named
from mixunlearn.plain import plain
from mixunlearn.wording import counted

EQUIVALENT = "equivalent to retraining"
BETTER = "better than doing nothing, not equivalent"
NO_BETTER = "no better than doing nothing"
HARMFUL = "harmful (utility lost)"
UNDECIDED = "undecided"
STATES = (EQUIVALENT, BETTER, NO_BETTER, HARMFUL, UNDECIDED)

Kind: TypeAlias = Literal["forgetting", "attack", "utility"]


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """How much nearer to retraining unlearned models are than their untouched originals.

    Distances are averages over metrics, each in units of its margin.

    Args:
        kind: the metrics: "forgetting", "attack", or "average" for all.
        mean: the mean improvement; positive is nearer.
        p_better, p_worse: one-sided probabilities of so much if there is no difference.
    """

    kind: str
    mean: float
    p_better: float
    p_worse: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A verdict in words, with its reasons and numbers.

    Args:
        state: one of `STATES`.
        reasons: three sentences: the metrics, doing nothing, the cost.
        biases: one for each metric.
        improvements: forgetting, attack, average in this order; empty with fewer than three
            originals.
    """

    state: str
    reasons: Sequence[str]
    biases: Sequence[Bias]
    improvements: Sequence[Improvement]

    def as_plain(self) -> dict[str, Any]:
        """Return it as plain data for JSON; infinite and undefined numbers become null."""
        found: dict[str, Any] = plain(
            {
                "state": self.state,
                "reasons": list(self.reasons),
                "metrics": {bias.metric: asdict(bias) for bias in self.biases},
                "improvements": {each.kind: asdict(each) for each in self.improvements},
            }
        )
        return found


def judge(
    unlearned: Values,
    untouched: Values,
    retrained: Values,
    margins: Mapping[str, float],
    *,
    cost: float,
) -> Verdict:
    """Return the verdict on unlearned models.

    Args:
        unlearned: metric -> one value for each original that was unlearned.
        untouched: metric -> the values of the same originals, in the same order.
        retrained: metric -> one value for each model retrained without the data.
        margins: metric -> the largest bias that counts as equivalent; declared before.
        cost: time of unlearning, in times of retraining.
    """
    found = biases(unlearned, retrained, margins)
    improvements = _improvements(unlearned, untouched, retrained, margins)
    state = _state(found, improvements)
    reasons = [_of_metrics(found), _of_doing_nothing(improvements), _of_cost(cost)]
    return Verdict(state=state, reasons=reasons, biases=found, improvements=improvements)


def kind_of(metric: str) -> Kind:
    """Return what a metric shows: forgetting, an attack's success, or utility."""
    if metric.startswith("mia/"):
        return "attack"
    utility = metric.startswith("acc/") and "forget" not in metric
    return "utility" if utility else "forgetting"


def _improvements(
    unlearned: Values, untouched: Values, retrained: Values, margins: Mapping[str, float]
) -> list[Improvement]:
    """Return the paired improvements: each unlearned model against its own original."""
    if min(len(unlearned[name]) for name in margins) < LEAST:
        return []
    gained = {
        name: _distance(untouched[name], retrained[name], margin)
        - _distance(unlearned[name], retrained[name], margin)
        for name, margin in margins.items()
    }
    kinds = {
        "forgetting": [gain for name, gain in gained.items() if kind_of(name) == "forgetting"],
        "attack": [gain for name, gain in gained.items() if kind_of(name) == "attack"],
        "average": list(gained.values()),
    }
    return [_improvement(kind, np.mean(gains, axis=0)) for kind, gains in kinds.items() if gains]


def _distance(values: Sequence[float], retrained: Sequence[float], margin: float) -> Any:  # noqa: ANN401 - an array
    return np.abs(np.asarray(values, float) - np.mean(retrained)) / margin


def _improvement(kind: str, gains: Any) -> Improvement:  # noqa: ANN401 - an array
    mean = float(gains.mean())
    if not gains.std():  # all originals gain the same: the mean is exact
        better, worse = float(mean <= 0), float(mean >= 0)
    else:
        better = float(stats.ttest_1samp(gains, 0, alternative="greater").pvalue)
        worse = 1 - better
    return Improvement(kind=kind, mean=mean, p_better=better, p_worse=worse)


def _state(found: Sequence[Bias], improvements: Sequence[Improvement]) -> str:
    """Return the state; what speaks against the unlearning comes first."""
    if any(bias.state == "unknown" for bias in found) or not improvements:
        return UNDECIDED
    if any(kind_of(bias.metric) == "utility" and bias.high < -bias.margin for bias in found):
        return HARMFUL
    better = _is_better(improvements)
    if all(bias.state == "equivalent" for bias in found):
        return EQUIVALENT if better else NO_BETTER
    if any(bias.state == "different" for bias in found):
        return BETTER if better else NO_BETTER
    return NO_BETTER if improvements[-1].mean <= 0 else UNDECIDED


def _is_better(improvements: Sequence[Improvement]) -> bool:
    """Return whether the average has improved, and neither forgetting nor attack is worse."""
    worse = any(each.p_worse < LEVEL for each in improvements)
    return improvements[-1].p_better < LEVEL and not worse


def _of_metrics(found: Sequence[Bias]) -> str:
    if any(bias.state == "unknown" for bias in found):
        return f"the spread is unknown: {LEAST} originals and {LEAST} references are needed"
    worst = max(found, key=lambda bias: max(abs(bias.low), abs(bias.high)) / bias.margin)
    inside = sum(bias.state == "equivalent" for bias in found)
    summary = f"{inside} of {counted(len(found), 'metric')} within the margins"
    interval = f"{_signed(worst)}, 90 % interval {worst.low:+.2f} to {worst.high:+.2f}"
    text = f"{summary}; farthest is {worst.metric}: {interval}, margin ±{worst.margin:g}"
    undecided = [bias for bias in found if bias.state == "undecided"]
    if undecided and not any(bias.state == "different" for bias in found):
        return f"{text}; {_needed(undecided)}"
    return text


def _signed(bias: Bias) -> str:
    metric = metric_named(bias.metric)
    unit = {"%": "pp", "": ""}.get(metric.unit, metric.unit) if metric else ""
    return f"{bias.value:+.2f} {unit}".strip()


def _needed(undecided: Sequence[Bias]) -> str:
    """Return how many models would decide."""
    numbers = [bias.models for bias in undecided if bias.models]
    if len(numbers) < len(undecided):
        return "no practical number of models would decide"
    return f"about {max(numbers)} originals and references would decide"


def _of_doing_nothing(improvements: Sequence[Improvement]) -> str:
    if not improvements:
        return "whether it is better than doing nothing is unknown"
    *parts, average = improvements
    text = f"against doing nothing, the distance to retraining is {_direction(average)}"
    named = ", ".join(f"{each.kind} {_direction(each)}" for each in parts)
    return f"{text} ({named})" if named else text


def _direction(each: Improvement) -> str:
    if min(each.p_better, each.p_worse) >= LEVEL:
        return "not told apart"
    word = "smaller" if each.p_better < LEVEL else "larger"
    return f"{word} by {abs(each.mean):.2f} margins"


def _of_cost(cost: float) -> str:
    if not math.isfinite(cost):
        return "the cost is unknown"
    if cost > 1:
        return f"it took {cost:.2f} times as long as retraining: slower than retraining"
    return f"it took {cost:.2f} of the time of retraining"
