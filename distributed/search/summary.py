"""The summary of a sweep as plain data: for `--json`, tables and plots."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distributed.plan.cautions import as_plain, cautions, nearness
from distributed.plan.plan import TESTED_TRIALS, Plan
from distributed.search.test_evaluation import FRESH, default_row
from distributed.study.trials_table import Row, hyperparameters, ranked
from mixunlearn.effort import ALONE
from mixunlearn.evaluation import Evaluator
from mixunlearn.evidence.verdict import Verdict, judge
from mixunlearn.metrics.gap import Evaluation, ReferenceSet
from mixunlearn.plain import plain
from mixunlearn.store import Entry

RATIO, RETRAIN, AT_ONCE = "time/ratio_to_retrain", "time/retrain_s", "time/at_once"


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
    spread = [fair(entry) for name, entry in examined.items() if name.startswith(FRESH)]
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
        "default": default and {**fair(examined["default"]), "trial": default["trial"]},
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
        cost=cost_alone(spread),
    )


def fair(entry: Entry) -> dict[str, float]:
    """Return the metrics of a test evaluation, without a ratio of times that says nothing.

    Earlier versions divided times without a note on who had shared the device.
    """
    metrics: dict[str, float] = entry.record["metrics"]
    return {name: value for name, value in metrics.items() if name != RATIO or AT_ONCE in metrics}


def cost_alone(runs: Sequence[Mapping[str, float]]) -> float:
    """Return the mean time to unlearn in times of retraining, both alone; NaN if it is unknown.

    Args:
        runs: metrics of unlearned models; those that were timed alone have a ratio.
    """
    known = [run[RATIO] for run in _timed(runs) if RATIO in run]
    return float(np.mean(known)) if known else math.nan


def _originals(originals: Sequence[Evaluation]) -> dict[str, Any]:
    names = originals[0].metrics
    return {name: distribution([each.metrics[name] for each in originals]) for name in names}


def distribution(values: Sequence[float | None]) -> dict[str, Any]:
    """Return mean, sd (divided by n − 1; null for one value), n and the values themselves.

    Args:
        values: one for each model, in order; `None`: this model has none, and n does not count it.
    """
    known = [value for value in values if value is not None]
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    mean = float(np.mean(known)) if known else None
    return {"mean": mean, "sd": sd, "n": len(known), "values": list(values)}


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
    marks = [references.at_once] * len(references.seconds)
    return {
        **{name: reference_values(references, name) for name in names},
        "gap/avg": _mutual(references.own_gaps()),
        "time/unlearn_s": distribution(references.seconds),
        **({AT_ONCE: distribution(marks)} if None not in marks else {}),
    }


def trial_summary(plan: Plan, row: Row, examined: Mapping[str, Entry]) -> dict[str, Any]:
    """Return the part of a summary about one of the best trials."""
    objective = plan.experiment.search.objective
    return {
        **fair(examined[f"trial {row['trial']}"]),
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
        **{name: distribution(values) for name, values in _by_metric(metrics).items()},
    }


def _by_metric(runs: Sequence[Mapping[str, float]]) -> dict[str, list[float | None]]:
    """Return each metric's values in the order of the runs; of times only those that count."""
    names = dict.fromkeys(name for run in runs for name in run)
    timed = list(map(id, _timed(runs)))
    return {
        name: [
            None if name.startswith("time/") and id(run) not in timed else run.get(name)
            for run in runs
        ]
        for name in names
    }


def _timed(runs: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """Return the runs whose times count: beside a retraining, else alone, else all of them."""
    beside = [run for run in runs if RETRAIN in run]
    return beside or [run for run in runs if run.get(AT_ONCE) == ALONE] or list(runs)
