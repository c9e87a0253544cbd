"""The summary of a sweep as plain data: for `--json`, tables and plots."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distributed.plan.cautions import as_plain, cautions, nearness
from distributed.plan.plan import TESTED_TRIALS, Plan
from distributed.search.test_evaluation import FRESH, default_row
from distributed.study.trials_table import Row, hyperparameters, ranked
from mixunlearn.evaluation import Evaluator
from mixunlearn.evidence.verdict import Verdict, judge
from mixunlearn.metrics.gap import Evaluation, ReferenceSet
from mixunlearn.plain import plain
from mixunlearn.store import Entry


def summarise(
    plan: Plan,
    rows: Sequence[Row],
    evaluator: Evaluator,
    examined: Mapping[str, Entry],
    *,
    tracking_uri: str,
    seconds: float,
) -> dict[str, Any]:
    """Return the results of a sweep, all on `test`.

    Args:
        plan: plan of the sweep.
        rows: its finished trials.
        evaluator: the evaluator of the phase `test`.
        examined: results of the final test evaluation.
        tracking_uri: where MLflow keeps the runs, without a password.
        seconds: duration of the sweep.
    """
    objective = plan.experiment.search.objective
    best = ranked(rows, objective)[:TESTED_TRIALS]
    originals = [plan.references.evaluation(each, "test") for each in plan.references.all_originals]
    default = default_row(rows, plan.default)
    spread = [entry.record["metrics"] for name, entry in examined.items() if name.startswith(FRESH)]
    summary = {
        "study": plan.study,
        "name": plan.experiment.name,
        "folder": str(plan.folder),
        "tracking_uri": tracking_uri,
        "objective": objective,
        "gap_metrics": list(evaluator.images.gap_metrics),
        "metrics": [*evaluator.images.resolution(), "div/js"],
        "references": _references(evaluator.references),
        "original": evaluator.references.compare(originals[0]),
        "originals": _originals(originals),
        "default": default and {**examined["default"].record["metrics"], "trial": default["trial"]},
        "best": [trial_summary(plan, row, examined) for row in best],
        "spread": best and {"trial": best[0]["trial"], **_spread(plan, spread)},
        "verdict": best and verdict(plan, spread, originals, evaluator.references).as_plain(),
        "trials": {
            state: Counter(row["state"] for row in rows)[state]
            for state in ("complete", "pruned", "failed")
        },
        "seconds": seconds,
    }
    return dict(plain({**summary, **_doubts(plan)}))


def _doubts(plan: Plan) -> dict[str, Any]:
    """Return what is said of the user's own model and weights; empty without either."""
    found = {"own": as_plain(nearness(plan)), "cautions": cautions(plan)}
    return {name: value for name, value in found.items() if value}


def verdict(
    plan: Plan,
    spread: Sequence[Mapping[str, float]],
    originals: Sequence[Evaluation],
    references: ReferenceSet,
) -> Verdict:
    """Return the verdict on the winner under fresh seeds, on `test`.

    Args:
        plan: plan of the sweep.
        spread: metrics of the fresh runs, in order.
        originals: evaluations of the untouched originals.
        references: the retrained references.
    """
    by_original: list[list[Mapping[str, float]]] = [[] for _ in originals]
    for index, run in enumerate(spread):
        by_original[plan.original_of(index)].append(run)
    return judge(
        # Runs of one original are not independent: their mean counts.
        {
            name: [float(np.mean([run[name] for run in runs])) for runs in by_original]
            for name in plan.margins
        },
        {name: [each.metrics[name] for each in originals] for name in plan.margins},
        {name: references.values(name) for name in plan.margins},
        plan.margins,
        cost=float(np.mean([run["time/ratio_to_retrain"] for run in spread])),
    )


def _originals(originals: Sequence[Evaluation]) -> dict[str, Any]:
    names = originals[0].metrics
    return {name: distribution([each.metrics[name] for each in originals]) for name in names}


def distribution(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, sd (divided by n − 1; null for one value), n and the values themselves."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    mean = float(np.mean(values)) if len(values) else None
    return {"mean": mean, "sd": sd, "n": len(values), "values": list(values)}


def reference_values(references: ReferenceSet, metric: str) -> dict[str, Any]:
    """Return the distribution of a metric over the references."""
    values = references.values(metric)
    return _mutual(values) if metric == "div/js" else distribution(values)


def _mutual(values: Sequence[float]) -> dict[str, Any]:
    """Return the distribution of the distances of each reference to the others."""
    found = distribution(values)
    # Two references have one distance, twice: an sd of 0 would be no spread, but no news either.
    return found if found["n"] > 2 else {**found, "sd": None}  # noqa: PLR2004


def _references(references: ReferenceSet) -> dict[str, Any]:
    names = [*references.evaluations[0].metrics, "div/js"]
    return {
        **{name: reference_values(references, name) for name in names},
        "gap/avg": _mutual(references.own_gaps()),
        "time/unlearn_s": distribution(references.seconds),
    }


def trial_summary(plan: Plan, row: Row, examined: Mapping[str, Entry]) -> dict[str, Any]:
    """Return the part of a summary about one of the best trials."""
    objective = plan.experiment.search.objective
    return {
        **examined[f"trial {row['trial']}"].record["metrics"],
        "trial": row["trial"],
        "state": row["state"],
        "epochs": row["epochs"],
        "seconds": row["seconds"],
        "val": {objective: row[objective]},
        "params": hyperparameters(row),
    }


def _spread(plan: Plan, metrics: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return {
        "seeds": len(metrics),
        "originals": [plan.original_of(index) for index in range(len(metrics))],
        **{name: distribution([one[name] for one in metrics]) for name in metrics[0]},
    }
