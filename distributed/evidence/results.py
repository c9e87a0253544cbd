"""The examinations as plain data: the leaderboard, the rows of the table, the margins."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from distributed.evidence.contenders import Contender
from distributed.evidence.forget_sets import ForgetSet
from distributed.search.summary import RATIO, distribution
from mixunlearn.effort import ALONE, Effort, Retraining
from mixunlearn.evidence.examination import PARTS, Examined
from mixunlearn.evidence.findings import findings
from mixunlearn.evidence.states import BETTER, EQUIVALENT, HARMFUL, NO_BETTER, UNDECIDED
from mixunlearn.plain import plain
from mixunlearn.signature import seed_for
from report.comparison import Table, tables
from report.runs import NOTHING, RETRAINED, CellResult
from trainables.examine import Examination

# Over several forget sets, the first of these that one of them has is the verdict.
WORST_FIRST = (HARMFUL, NO_BETTER, UNDECIDED, BETTER, EQUIVALENT)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The examined models of one forget set.

    Args:
        forget_set: the forget set.
        margins: metric -> margin, of the metrics that the verdict is about.
        retrained: the references.
        untouched: the originals.
        unlearned: name of a contender -> one model for each original, in their order.
        absent: name of a contender without models -> why.
        retraining: what training one reference has cost.
    """

    forget_set: ForgetSet
    margins: Mapping[str, float]
    retrained: Sequence[Examination]
    untouched: Sequence[Examination]
    unlearned: Mapping[str, Sequence[Examination]]
    absent: Mapping[str, str]
    retraining: Retraining

    def cost(self, name: str) -> float:
        """Return the mean time of unlearning in times of retraining, both alone; NaN: unknown."""
        costs = map(self._compared, self.unlearned[name])
        known = [cost[RATIO] for cost in costs if RATIO in cost]
        return float(np.mean(known)) if known else math.nan

    def seconds(self, name: str) -> list[float | None]:
        """Return the times of unlearning; if some were measured alone, `None` for the others."""
        models = self.unlearned[name]
        alone = any(each.at_once == ALONE for each in models)
        return [None if alone and each.at_once != ALONE else each.seconds for each in models]

    def _compared(self, model: Examination) -> Mapping[str, float]:
        if model.at_once is None:  # examined by an earlier version, which did not note it
            return {}
        effort = Effort(
            seconds=model.seconds, at_once=model.at_once, retraining_s=model.retraining_s
        )
        return self.retraining.compare(effort)

    def findings(self, name: str) -> dict[str, Any]:
        """Return what is found out about a contender, or about doing nothing; see `findings`."""
        nothing = name == NOTHING
        return findings(
            _examined(self.untouched if nothing else self.unlearned[name]),
            _examined(self.untouched),
            _examined(self.retrained),
            self.margins,
            cost=None if nothing else self.cost(name),
            seed=seed_for("evidence", self.forget_set.splits.key),
        )


def methods(contenders: Sequence[Contender], measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return each method with its verdicts, nearest to retraining first."""
    known = {each.name: each for each in contenders}
    absent = {name: reason for each in measured for name, reason in each.absent.items()}
    found = {
        name: {each.forget_set.name: each.findings(name) for each in measured}
        for name in (*known, NOTHING)
        if name not in absent
    }
    (table,) = tables(results(contenders, measured, found))
    return [
        plain(
            {
                "method": standing.method,
                **_configuration(known.get(standing.method)),
                "state": state([each["verdict"] for each in sets.values()]),
                "absent": absent.get(standing.method, ""),
                **_place(table, standing.method),
                "cost": _cost(standing.method, measured),
                "sets": sets,
            }
        )
        for standing in table.standings
        for sets in [found.get(standing.method, {})]
    ]


def state(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Return the verdict over several forget sets: the worst; empty for doing nothing."""
    states = {each["state"] for each in verdicts if each}
    return next((each for each in WORST_FIRST if each in states), "")


def results(
    contenders: Sequence[Contender],
    measured: Sequence[Measured],
    found: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> list[CellResult]:
    """Return a result for each contender and forget set, as for a comparison.

    Args:
        contenders: the methods.
        measured: the examined models of each forget set.
        found: method -> forget set -> findings; who diverged on one of them has none at all.
    """
    return [
        CellResult(
            data=each.plan.experiment.data.source,
            task=each.plan.experiment.task.kind,
            labels=each.plan.experiment.labels,
            method=each.name,
            seed=each.plan.experiment.search.seed,
            study=each.plan.study,
            summary=_summary(each, part, found) if found.get(each.name) else {},
            forget=part.forget_set.name,
            absent="" if found.get(each.name) else "diverged",
        )
        for part in measured
        for each in contenders
    ]


def margins(measured: Sequence[Measured]) -> dict[str, npt.NDArray[np.float16]]:
    """Return all logit margins by forget set, method and part, each of shape (models, images)."""
    return {
        f"{each.forget_set.name}/{name}/{part}": np.stack(
            [one.examined.margins[part] for one in models]
        )
        for each in measured
        for name, models in (
            (RETRAINED, each.retrained),
            (NOTHING, each.untouched),
            *each.unlearned.items(),
        )
        for part in PARTS
    }


def _summary(
    contender: Contender, part: Measured, found: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, Any]:
    """Return the results on one forget set in the form of a study's summary."""
    unlearned = part.unlearned[contender.name]
    cost = part.cost(contender.name)
    return {
        "gap_metrics": list(part.margins),
        "best": [{"trial": contender.trial}],
        "verdict": found[contender.name][part.forget_set.name]["verdict"],
        "references": _distributions(part.retrained),
        "originals": _distributions(part.untouched),
        "spread": {
            "trial": contender.trial,
            "originals": list(range(len(unlearned))),
            **_distributions(unlearned),
            "time/unlearn_s": distribution(part.seconds(contender.name)),
            **({} if math.isnan(cost) else {RATIO: distribution([cost] * len(unlearned))}),
        },
    }


def _distributions(models: Sequence[Examination]) -> dict[str, Any]:
    every = [each.examined.metrics for each in models]
    names = [name for name in every[0] if all(name in each for each in every)]
    return {name: distribution([each[name] for each in every]) for name in names}


def _examined(models: Sequence[Examination]) -> list[Examined]:
    return [each.examined for each in models]


def _configuration(contender: Contender | None) -> dict[str, Any]:
    if contender is None:
        return {"study": None, "trial": None, "parameters": {}, "epochs": None}
    return {
        "study": contender.plan.study,
        "trial": contender.trial,
        "parameters": dict(contender.hyperparameters),
        "epochs": contender.epochs,
    }


def _place(table: Table, method: str) -> dict[str, Any]:
    """Return the distance to retraining over all forget sets, and who is not told apart."""
    standing = next(each for each in table.standings if each.method == method)
    distance = standing.distance
    interval = distance and {name: getattr(distance, name) for name in ("value", "low", "high")}
    return {"group": standing.group, "distance": interval}


def _cost(method: str, measured: Sequence[Measured]) -> float | None:
    costs = [each.cost(method) for each in measured if method in each.unlearned]
    return float(np.mean(costs)) if costs else None
