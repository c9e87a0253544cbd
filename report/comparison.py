"""Compares methods on one problem: their results, their cost, and how certain each rank is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mixunlearn.plain import finite

GAP, TIME, RATIO = "gap/avg", "time/unlearn_s", "time/ratio_to_retrain"
DRAWS = 2000  # of the bootstrap
CONFIDENCE = 0.95

Problem: TypeAlias = tuple[str, str, str]  # data, task, labels
Values: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """The result of one study of a comparison.

    Args:
        data, task, labels, method, seed: its place in the comparison.
        study: its name; empty if there is no study.
        summary: its verdict; empty if there is none yet.
        rows: its trials, as in trials.parquet.
        absent: why there is no verdict: the method does not apply, it failed, or it has not run.
    """

    data: str
    task: str
    labels: str
    method: str
    seed: int
    study: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    absent: str = ""

    @property
    def problem(self) -> Problem:
        """Return the problem that was to be solved: data, task, labels."""
        return self.data, self.task, self.labels


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One method on one problem, over all its searches.

    Args:
        method: its name in the comparison.
        tuned: metric -> values on `test`, one for each search and fresh seed of its winner.
        default: `gap/avg` on `test` of the default configuration, one for each search.
        searches: number of searches that have a verdict.
        cost: seconds of all trials of a search, averaged over the searches.
        rank: by mean gap, 1 is best; `None` without a verdict.
        ranks: bounds within which the rank lies in 95 % of bootstrap samples of the values.
        absent: why there is no verdict.
    """

    method: str
    tuned: Mapping[str, Values]
    default: Values
    searches: int
    cost: float
    rank: int | None = None
    ranks: tuple[int, int] | None = None
    absent: str = ""

    @property
    def gap(self) -> float:
        """Return the mean gap of the tuned method, in percentage points; NaN without a verdict."""
        return mean(self.tuned.get(GAP, ()))


@dataclass(frozen=True, kw_only=True)
class Table:
    """All methods on one problem, best first, with the values to compare them with.

    Args:
        problem: data, task, labels.
        metrics: the metrics that the average gap is made of.
        references: metric -> the values of models retrained without the forget set.
        own_gaps: `gap/avg` of each reference against the others: how much retraining varies.
        original: metric -> value of the original; its gap is the gap of doing nothing.
        standings: best first; methods without a verdict last.
    """

    problem: Problem
    metrics: Sequence[str]
    references: Mapping[str, Values]
    own_gaps: Values
    original: Mapping[str, float]
    standings: Sequence[Standing]

    @property
    def title(self) -> str:
        """Return the problem in words."""
        data, task, labels = self.problem
        return f"{data}, {task}, label-{labels}"

    def within(self, gap: float) -> bool:
        """Return whether a gap is no larger than the largest gap between the references."""
        return bool(len(self.own_gaps)) and gap <= float(self.own_gaps.max())


def tables(results: Sequence[CellResult]) -> list[Table]:
    """Return a table for each problem, in the order of the results."""
    problems = dict.fromkeys(result.problem for result in results)
    return [_table([result for result in results if result.problem == each]) for each in problems]


def mean(values: Sequence[float] | Values) -> float:
    """Return the mean; NaN if there are no values."""
    return float(np.mean(values)) if len(values) else float("nan")


def sd(values: Sequence[float] | Values) -> float:
    """Return the standard deviation (n − 1); NaN for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def best_so_far(rows: Sequence[Mapping[str, Any]], objective: str) -> Values:
    """Return the lowest objective after each trial, by number; NaN before the first value."""
    ordered = sorted(rows, key=lambda row: int(row["trial"]))
    values = [finite(row.get(objective)) for row in ordered]
    # Infinity, because a NaN would spread to all later minima.
    known = np.array([np.inf if value is None else value for value in values], dtype=float)
    lowest = np.minimum.accumulate(known) if len(known) else known
    return np.where(np.isfinite(lowest), lowest, np.nan)


def rank_bounds(samples: Sequence[Values], seed: int = 0) -> list[tuple[int, int]]:
    """Return, for each sample, the bounds of the rank of its mean over bootstrap draws.

    Args:
        samples: values of each method, smaller is better; none is empty.
        seed: seed of the draws.

    Returns:
        Lowest and highest rank of the middle 95 % of draws, 1 is best.
    """
    # A fixed seed: the same results must not get other bounds when the page is written again.
    rng = np.random.default_rng(seed)
    # Shape (methods, draws).
    means = np.stack([rng.choice(sample, (DRAWS, len(sample))).mean(axis=1) for sample in samples])
    # Equal means tie: both then have the better rank.
    ranks = 1 + (means[None] < means[:, None]).sum(axis=1)
    tail = (1 - CONFIDENCE) / 2
    # "nearest": there is no rank between two ranks.
    bounds = np.quantile(ranks, (tail, 1 - tail), axis=1, method="nearest").astype(int)
    return [(int(low), int(high)) for low, high in bounds.T]


def _table(results: Sequence[CellResult]) -> Table:
    judged = [result for result in results if result.summary.get("best")]
    # References and original are the same for all methods: data, model and recipe are shared.
    any_summary: Mapping[str, Any] = judged[0].summary if judged else {}
    references = any_summary.get("references", {})
    methods = dict.fromkeys(result.method for result in results)
    standings = [_standing([each for each in results if each.method == name]) for name in methods]
    return Table(
        problem=results[0].problem,
        metrics=any_summary.get("gap_metrics", ()),
        references={name: _values(found["values"]) for name, found in references.items()},
        own_gaps=_values(references.get(GAP, {}).get("values", ())),
        original=any_summary.get("original", {}),
        standings=_ranked(standings),
    )


def _standing(results: Sequence[CellResult]) -> Standing:
    judged = [result for result in results if result.summary.get("best")]
    spreads = [result.summary["spread"] for result in judged]
    names = (
        # A spread also holds the trial and the number of seeds, which are no metrics.
        [name for name, found in spreads[0].items() if "values" in _mapping(found)]
        if spreads
        else []
    )
    defaults = [finite(_mapping(result.summary.get("default")).get(GAP)) for result in judged]
    costs = [sum(float(row["seconds"] or 0) for row in result.rows) for result in judged]
    return Standing(
        method=results[0].method,
        tuned={
            name: _values([value for spread in spreads for value in spread[name]["values"]])
            for name in names
        },
        default=_values(defaults),
        searches=len(judged),
        cost=mean(costs),
        absent="" if judged else results[0].absent or "no trial has a result",
    )


def _ranked(standings: Sequence[Standing]) -> list[Standing]:
    known = sorted((each for each in standings if not each.absent), key=lambda each: each.gap)
    bounds = rank_bounds([each.tuned[GAP] for each in known]) if known else []
    ranked = [
        Standing(**{**vars(each), "rank": place, "ranks": bound})
        for place, (each, bound) in enumerate(zip(known, bounds, strict=True), start=1)
    ]
    return [*ranked, *(each for each in standings if each.absent)]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _values(values: Sequence[object]) -> Values:
    return np.array([value for value in map(finite, values) if value is not None], dtype=float)
