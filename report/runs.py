"""The runs of a comparison: each model on `test`, with where it comes from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from mixunlearn.metrics.distances import Array, Unlearned
from mixunlearn.metrics.table import RELATIVE
from mixunlearn.plain import finite

NOTHING = "doing nothing"  # the untouched original, as a contender
RETRAINED = "retrained references"

Problem: TypeAlias = tuple[str, str, str]  # data, task, labels


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """The result of one study of a comparison.

    Args:
        data, task, labels, method, seed: its place in the comparison.
        study: its name; empty if there is no study.
        summary: its verdict; empty if there is none yet.
        rows: its trials, as in trials.parquet.
        absent: why there is no verdict: the method does not apply, it failed, or it has not run.
        forget: name of the forget set on which it is reported, if the problem has several.
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
    forget: str = ""

    @property
    def problem(self) -> Problem:
        """Return the problem that was to be solved: data, task, labels."""
        return self.data, self.task, self.labels

    @property
    def judged(self) -> bool:
        """Return whether it has a verdict."""
        return bool(self.summary.get("best"))


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model on `test`.

    Args:
        original: number of the original it started from; `None` for a reference.
        fresh: number among the models of the same original, from 0.
        metrics: its metrics, by name.
    """

    original: int | None
    fresh: int
    metrics: Mapping[str, float]


def unlearned_runs(result: CellResult) -> list[Run]:
    """Return the models that the winner of a study unlearned under fresh seeds."""
    spread = mapping(result.summary.get("spread"))
    return _runs(spread, spread.get("originals"))


def untouched_runs(result: CellResult) -> list[Run]:
    """Return the originals; summaries of earlier versions have one, whose metrics are numbers."""
    known = result.summary.get("originals") or result.summary.get("original")
    return _runs(mapping(known), None, each=1)


def reference_runs(result: CellResult) -> list[Run]:
    """Return the models that were retrained without the forget set."""
    found = _runs(mapping(result.summary.get("references")), None, each=1)
    return [Run(original=None, fresh=run.original or 0, metrics=run.metrics) for run in found]


def unlearned(runs: Sequence[Run], forget: str, metrics: Sequence[str]) -> Unlearned | None:
    """Return runs as models of several originals; `None` if no run has all the metrics."""
    complete: dict[int, list[list[float]]] = {}
    for run in runs:
        if run.original is not None and set(metrics) <= run.metrics.keys():
            complete.setdefault(run.original, []).append([run.metrics[name] for name in metrics])
    if not complete or not metrics:
        return None
    # A deterministic method has one run for each original; its spread comes from these.
    means = [np.mean(complete[original], axis=0) for original in sorted(complete)]
    return Unlearned(forget=forget, originals=sorted(complete), values_OM=np.array(means))


def values_of(runs: Sequence[Run], metrics: Sequence[str]) -> Array:
    """Return the metrics of the runs that have all of them, one row for each."""
    found = [
        [run.metrics[name] for name in metrics]
        for run in runs
        if set(metrics) <= run.metrics.keys()
    ]
    return np.array(found, dtype=float).reshape(-1, len(metrics))


def run_rows(results: Sequence[CellResult]) -> Iterator[dict[str, Any]]:
    """Yield a row for each model of a comparison: its place and its raw metrics.

    References and originals come once for each problem and forget set, because its studies share
    them. Distances to the references are left out, because they follow from the raw metrics.
    """
    shared: set[tuple[Problem, str]] = set()
    for result in results:
        if not result.judged:
            continue
        if (result.problem, result.forget) not in shared:
            shared.add((result.problem, result.forget))
            for method, runs in (
                (RETRAINED, reference_runs(result)),
                (NOTHING, untouched_runs(result)),
            ):
                yield from (_row(result, method, None, run) for run in runs)
        for run in unlearned_runs(result):
            yield _row(result, result.method, result.seed, run)


def mapping(value: object) -> Mapping[str, Any]:
    """Return a mapping as it is, and anything else as an empty one."""
    return value if isinstance(value, Mapping) else {}


def sample(value: object) -> list[object]:
    """Return the values of a distribution, which may also be a single number."""
    if isinstance(value, Mapping):
        return list(value.get("values") or ())
    return [] if finite(value) is None else [value]


def _row(result: CellResult, method: str, seed: int | None, run: Run) -> dict[str, Any]:
    raw = {name: value for name, value in run.metrics.items() if not name.startswith(RELATIVE)}
    return {
        "data": result.data,
        "task": result.task,
        "labels": result.labels,
        "method": method,
        "forget": result.forget,
        "seed": seed,
        "original": run.original,
        "fresh": run.fresh,
        **raw,
    }


def _runs(
    distributions: Mapping[str, Any], originals: Sequence[int] | None, each: int = 0
) -> list[Run]:
    """Return the runs behind distributions whose values are in one order.

    Args:
        distributions: metric -> distribution or number.
        originals: number of each run's original; `None`: it is not stated.
        each: originals between two runs, where it is not stated: 0 means that all have one.
    """
    samples = {
        name: sample(value)
        for name, value in distributions.items()
        # Other keys (the trial, the number of seeds) are no metrics, and have no slash.
        if "/" in name
    }
    count = max(map(len, samples.values()), default=0)
    numbers = list(originals or (index * each for index in range(count)))
    found, seen = [], dict.fromkeys(numbers, 0)
    for index, original in enumerate(numbers[:count]):
        metrics = {
            name: known
            for name, values in samples.items()
            # A distribution of fewer values cannot be assigned to runs.
            if len(values) == count and (known := finite(values[index])) is not None
        }
        found.append(Run(original=original, fresh=seen[original], metrics=metrics))
        seen[original] += 1
    return found
