"""The verdict on an unlearning: is it like retraining, and is it better than doing nothing?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mixunlearn.errors import InputError
from mixunlearn.evidence.equivalence import LEAST, Bias, Values, biases, require_values
from mixunlearn.evidence.estimate import LEVEL
from mixunlearn.evidence.originals import Change, Improvement, changes, improvements
from mixunlearn.evidence.states import BETTER, EQUIVALENT, HARMFUL, NO_BETTER, UNDECIDED
from mixunlearn.metrics.table import metric_named
from mixunlearn.plain import plain
from mixunlearn.wording import counted


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A verdict in words, with its reasons and numbers.

    Args:
        state: one of `STATES`.
        reasons: three sentences: the metrics, doing nothing, the cost.
        biases: against retraining, one for each metric.
        improvements: forgetting, attack, average in this order; empty with fewer than three models
            of a kind.
        changes: against the own originals, one for each metric; empty in the same case.
    """

    state: str
    reasons: Sequence[str]
    biases: Sequence[Bias] = ()
    improvements: Sequence[Improvement] = ()
    changes: Sequence[Change] = ()

    def as_plain(self) -> dict[str, Any]:
        """Return it as plain data for JSON; infinite and undefined numbers become null."""
        found: dict[str, Any] = plain(
            {
                "state": self.state,
                "reasons": list(self.reasons),
                "metrics": {bias.metric: asdict(bias) for bias in self.biases},
                "improvements": {each.kind: asdict(each) for each in self.improvements},
                "changes": {each.metric: asdict(each) for each in self.changes},
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
        cost: time of unlearning, in times of retraining; NaN if it is not known.

    Raises:
        InputError: there is no margin, one is not above 0, a value is missing or not finite, or
            models of one kind have different numbers of values.
    """
    found = biases(unlearned, retrained, margins)
    require_values("untouched", untouched, margins)
    _require_lengths(unlearned, untouched, retrained, margins)
    kinds = (unlearned, untouched, retrained, margins)
    improved, changed = improvements(*kinds), changes(*kinds)
    return Verdict(
        state=_state(found, improved, changed),
        reasons=[
            _of_metrics(found, changed),
            _of_doing_nothing(improved, changed),
            _of_cost(cost),
        ],
        biases=found,
        improvements=improved,
        changes=changed,
    )


def _require_lengths(
    unlearned: Values, untouched: Values, retrained: Values, margins: Mapping[str, float]
) -> None:
    """Check that each model has all metrics, and each unlearned model its original."""
    first = next(iter(margins))
    for name in margins:
        for role, values, of in (
            ("unlearned", unlearned, unlearned),
            ("untouched", untouched, unlearned),
            ("retrained", retrained, retrained),
        ):
            if len(values[name]) != len(of[first]):
                remedy = f"must be {len(of[first])}: each model needs a value of each metric"
                raise InputError(f"number of values of {role}.{name}", len(values[name]), remedy)


def _state(
    found: Sequence[Bias], improved: Sequence[Improvement], changed: Sequence[Change]
) -> str:
    """Return the state; what speaks against the unlearning comes first."""
    if not improved:
        return UNDECIDED
    if _harmed(changed):
        return HARMFUL
    better = improved[-1].p_better < LEVEL and not _worse(improved)
    if all(bias.state == "equivalent" for bias in found):
        return EQUIVALENT if better else NO_BETTER
    if any(bias.state == "different" for bias in found):
        return BETTER if better else NO_BETTER
    # Equivalence is open. So only what is shown counts: it is farther, or nothing has changed.
    shown = improved[-1].p_worse < LEVEL or _unchanged(changed)
    return NO_BETTER if shown else UNDECIDED


def _harmed(changed: Sequence[Change]) -> list[str]:
    """Return the metrics in which utility was lost."""
    return [each.metric for each in changed if each.p_harm is not None and each.p_harm < LEVEL]


def _unchanged(changed: Sequence[Change]) -> bool:
    """Return whether unlearned models are shown to be like their originals."""
    return bool(changed) and all(each.none for each in changed)


def _worse(improved: Sequence[Improvement]) -> list[str]:
    """Return what is shown to be farther from retraining than before, by more than a margin.

    A smaller loss does not matter, by the margins' own definition.
    """
    return [each.kind for each in improved if each.p_far < LEVEL]


def _of_metrics(found: Sequence[Bias], changed: Sequence[Change]) -> str:
    if any(bias.state == "unknown" for bias in found):
        return f"the spread is unknown: {LEAST} originals and {LEAST} references are needed"
    worst = max(found, key=lambda bias: max(abs(bias.low), abs(bias.high)) / bias.margin)
    inside = sum(bias.state == "equivalent" for bias in found)
    summary = f"{inside} of {counted(len(found), 'metric')} within the margins"
    interval = f"{_signed(worst)}, 90 % interval {worst.low:+.2f} to {worst.high:+.2f}"
    text = f"{summary}; farthest is {worst.metric}: {interval}, margin ±{worst.margin:g}"
    return "; ".join([text, *_shown(found), *_lost(changed)])


def _shown(found: Sequence[Bias]) -> list[str]:
    """Return what is shown of the metrics that are not equivalent, and what would decide."""
    different = [bias for bias in found if bias.state == "different"]
    outside = [bias.metric for bias in different if bias.outside]
    within = [bias.metric for bias in different if not bias.outside]
    said = []
    if outside:
        said.append(f"shown to be outside its margin: {', '.join(outside)}")
    if within:
        named = ", ".join(within)
        said.append(f"a difference is shown, but not that it is outside the margin: {named}")
    still = [bias for bias in found if bias.state in ("undecided", "different")]
    if still and not outside:
        said.append(_needed(still))
    return said


def _lost(changed: Sequence[Change]) -> list[str]:
    lost = _harmed(changed)
    said = "below retraining by more than the margin, and below its own originals"
    return [f"{said}: {', '.join(lost)}"] if lost else []


def _signed(bias: Bias) -> str:
    metric = metric_named(bias.metric)
    unit = {"%": "pp", "": ""}.get(metric.unit, metric.unit) if metric else ""
    return f"{bias.value:+.2f} {unit}".strip()


def _needed(still: Sequence[Bias]) -> str:
    """Return how many models would decide."""
    numbers = [bias.models for bias in still if bias.models]
    if len(numbers) < len(still):
        return "no practical number of models would decide"
    return f"about {max(numbers)} originals and references would decide"


def _of_doing_nothing(improved: Sequence[Improvement], changed: Sequence[Change]) -> str:
    if not improved:
        return "whether it is better than doing nothing is unknown"
    *parts, average = improved
    named = ", ".join(f"{each.kind} {_direction(each)}" for each in parts)
    text = f"the distance to retraining is {_direction(average)}" + f" ({named})" * bool(named)
    if average.p_better < LEVEL and (worse := _worse(improved)):
        why = f"not better, because {worse[0]} is farther by more than a margin"
        return f"against doing nothing, {text}; {why}"
    if min(average.p_better, average.p_worse) < LEVEL:
        return f"against doing nothing, {text}"
    if _unchanged(changed):
        return f"shown to be the same as doing nothing, within the margins: {text}"
    return f"not shown to be better than doing nothing, nor to be the same: {text}"


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
