"""Compares methods on one problem: their results, their cost, and which are told apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mixunlearn.metrics.distances import (
    FEWEST,
    Configurations,
    Difference,
    Distance,
    References,
    Unlearned,
    differences,
    distance_of,
)
from mixunlearn.metrics.groups import letters
from mixunlearn.plain import finite
from mixunlearn.wording import counted
from report.runs import (
    NOTHING,
    CellResult,
    Problem,
    mapping,
    reference_runs,
    sample,
    unlearned,
    unlearned_runs,
    untouched_runs,
    values_of,
)
from report.verdict import state

GAP, TIME, RATIO = "gap/avg", "time/unlearn_s", "time/ratio_to_retrain"

Values: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One method on one problem, over all its searches; doing nothing is one of the methods.

    Args:
        method: its name in the comparison.
        tuned: metric -> values on `test`, one for each search and fresh seed of its winner.
        default: `gap/avg` on `test` of the default configuration, one for each search.
        searches: number of searches that have a verdict.
        cost: seconds of all trials of a search, averaged over the searches.
        distance: to retraining; `None` without a verdict.
        group: letters of its groups; methods that share one are not told apart. Empty if none can
            be told apart.
        against_nothing: the method compared with doing nothing; `None` for doing nothing.
        states: the verdicts of its studies, each once; empty for summaries without one.
        absent: why there is no verdict.
    """

    method: str
    tuned: Mapping[str, Values]
    default: Values
    searches: int
    cost: float
    distance: Distance | None = None
    group: str = ""
    against_nothing: Difference | None = None
    states: Sequence[str] = ()
    absent: str = ""

    @property
    def gap(self) -> float:
        """Return the mean `gap/avg` of its runs, in percentage points; NaN without a verdict."""
        return mean(self.tuned.get(GAP, ()))


@dataclass(frozen=True, kw_only=True)
class Table:
    """All methods on one problem, nearest first, with the values to compare them with.

    Args:
        problem: data, task, labels.
        metrics: the metrics that make the distance, and the average gap.
        references: metric -> the values of models retrained without the forget set.
        own_gaps: `gap/avg` of each reference against the others: how much retraining varies.
        standings: by distance; methods without a verdict last.
        pairs: all pairs of methods with a verdict, compared.
        few: why no pair is told apart, or which methods are not; empty if all could be.
    """

    problem: Problem
    metrics: Sequence[str]
    references: Mapping[str, Values]
    own_gaps: Values
    standings: Sequence[Standing]
    pairs: Sequence[Difference] = ()
    few: str = ""

    @property
    def title(self) -> str:
        """Return the problem in words."""
        data, task, labels = self.problem
        return f"{data}, {task}, label-{labels}"

    @property
    def known(self) -> list[Standing]:
        """Return the standings with a distance, nearest first."""
        return [each for each in self.standings if each.distance]

    @property
    def nothing(self) -> Standing | None:
        """Return the standing of doing nothing; `None` if no study has a verdict."""
        return next((each for each in self.standings if each.method == NOTHING), None)

    def group_of(self, method: str) -> str:
        """Return the letters of a method's groups; empty if none are told apart."""
        return next(each.group for each in self.standings if each.method == method)

    def apart(self, first: str, second: str) -> bool:
        """Return whether two methods are told apart."""
        return any(
            {each.first, each.second} == {first, second} and each.apart for each in self.pairs
        )


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


def best_so_far(rows: Sequence[Mapping[str, object]], objective: str) -> Values:
    """Return the lowest objective after each trial, by number; NaN before the first value.

    A trial that failed is a trial, but its value does not count: its model is of no use.
    """
    ordered = sorted(rows, key=lambda row: int(str(row["trial"])))
    values = [
        None if row.get("state") == "failed" else finite(row.get(objective)) for row in ordered
    ]
    # Infinity, because a NaN would spread to all later minima.
    known = np.array([np.inf if value is None else value for value in values], dtype=float)
    lowest = np.minimum.accumulate(known) if len(known) else known
    return np.where(np.isfinite(lowest), lowest, np.nan)


def _table(results: Sequence[CellResult]) -> Table:
    judged = [result for result in results if result.judged]
    # References and originals are the same for all methods: data, model and recipe are shared.
    any_summary = judged[0].summary if judged else {}
    references = mapping(any_summary.get("references"))
    metrics = list(any_summary.get("gap_metrics", ()))
    methods = dict.fromkeys(result.method for result in results)
    standings = [_standing([each for each in results if each.method == name]) for name in methods]
    if judged:
        standings.append(_doing_nothing(judged[0], metrics))
    contenders = _contenders(judged, metrics)
    of_sets = _references(judged, metrics)
    pairs = differences(contenders, of_sets)
    return Table(
        problem=results[0].problem,
        metrics=metrics,
        references={name: _values(sample(found)) for name, found in references.items()},
        own_gaps=_values(sample(references.get(GAP))),
        standings=_ordered(standings, contenders, of_sets, pairs),
        pairs=pairs,
        few=_too_few(contenders, of_sets),
    )


def _contenders(judged: Sequence[CellResult], metrics: Sequence[str]) -> dict[str, Configurations]:
    """Return each method's configurations, one for each search and forget set."""
    found: dict[str, list[Unlearned]] = {}
    for result in judged:
        own = unlearned(unlearned_runs(result), result.forget, metrics)
        found.setdefault(result.method, []).extend([own] if own else [])
    for result in {result.forget: result for result in judged}.values():
        own = unlearned(untouched_runs(result), result.forget, metrics)
        found.setdefault(NOTHING, []).extend([own] if own else [])
    return {method: configurations for method, configurations in found.items() if configurations}


def _references(judged: Sequence[CellResult], metrics: Sequence[str]) -> References:
    return {result.forget: values_of(reference_runs(result), metrics) for result in judged}


def _standing(results: Sequence[CellResult]) -> Standing:
    judged = [result for result in results if result.judged]
    spreads = [mapping(result.summary.get("spread")) for result in judged]
    # A spread also holds the trial and the number of seeds, which are no metrics.
    names = [name for name in (spreads[0] if spreads else ()) if "/" in name]
    defaults = [mapping(result.summary.get("default")).get(GAP) for result in judged]
    costs = [sum(float(row["seconds"] or 0) for row in result.rows) for result in judged]
    return Standing(
        method=results[0].method,
        tuned={
            name: _values([value for spread in spreads for value in sample(spread.get(name))])
            for name in names
        },
        default=_values(defaults),
        searches=len(judged),
        cost=mean(costs),
        states=[*dict.fromkeys(filter(None, (state(result.summary) for result in judged)))],
        absent="" if judged else results[0].absent or "no trial has a result",
    )


def _doing_nothing(result: CellResult, metrics: Sequence[str]) -> Standing:
    values_OM = values_of(untouched_runs(result), metrics)
    means_M = values_of(reference_runs(result), metrics).mean(axis=0)
    found = {name: values_OM[:, index] for index, name in enumerate(metrics)}
    # The original needs no search and no time.
    free = {name: np.zeros(1) for name in (TIME, RATIO)}
    return Standing(
        method=NOTHING,
        tuned={GAP: np.abs(values_OM - means_M).mean(axis=1), **found, **free},
        default=np.zeros(0),
        searches=0,
        cost=0.0,
    )


def _ordered(
    standings: Sequence[Standing],
    contenders: Mapping[str, Configurations],
    references: References,
    pairs: Sequence[Difference],
) -> list[Standing]:
    """Return the standings with distances and groups, nearest first."""
    distances = {name: distance_of(own, references) for name, own in contenders.items()}
    order = sorted(distances, key=lambda name: distances[name].value)
    tested = any(not np.isnan(each.p) for each in pairs)
    apart = [(each.first, each.second) for each in pairs if each.apart]
    groups = letters(order, apart) if tested else {}
    place = {name: index for index, name in enumerate(order)}
    found = [
        replace(
            each,
            distance=distances.get(each.method),
            group=groups.get(each.method, ""),
            against_nothing=_against_nothing(each.method, pairs),
        )
        for each in standings
    ]
    return sorted(found, key=lambda each: place.get(each.method, len(place)))


def _against_nothing(method: str, pairs: Sequence[Difference]) -> Difference | None:
    # Doing nothing is the last contender, so it is the second of each of its pairs.
    return next((each for each in pairs if (each.first, each.second) == (method, NOTHING)), None)


def _too_few(contenders: Mapping[str, Configurations], references: References) -> str:
    """Return why methods are not told apart, in words; empty if all can be."""
    retrained = min(map(len, references.values()), default=FEWEST)
    if retrained < FEWEST:
        return f"Too few references ({retrained}; {FEWEST} are needed): not told apart."
    counts = {name: min(len(each.originals) for each in own) for name, own in contenders.items()}
    few = {name: count for name, count in counts.items() if count < FEWEST}
    if few and len(counts) - len(few) < 2:  # noqa: PLR2004 - a pair that can be told apart
        said = counted(max(few.values()), "original")
        return f"Too few originals ({said}; {FEWEST} are needed): not told apart."
    names = ", ".join(f"{name} ({count})" for name, count in few.items())
    return f"Too few originals, so not told apart from any: {names}." if few else ""


def _values(values: Sequence[object]) -> Values:
    return np.array([value for value in map(finite, values) if value is not None], dtype=float)
