"""Runs a recorded trial again in this process and compares the results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distributed.cluster.version import code_version
from distributed.config.experiment import Resources
from distributed.plan.plan import Plan
from distributed.plan.requirements import require_home, require_resources
from distributed.rerun.trial_lookup import RecordedTrial, find_trial
from distributed.runtime.progress import Progress
from distributed.search.session import Session
from distributed.search.trials import fill_references
from mixunlearn.errors import MixUnlearnError
from mixunlearn.metrics.gap import ReferenceSet
from mixunlearn.plain import plain
from mixunlearn.trial import Trial
from trainables.unlearn import reason

Metrics = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A metric then and now.

    Args:
        then, now: its values; `None` if it has none.
        spread: the references' sd, but at least the metric's resolution; `None` if the references
            do not have the metric.
    """

    then: float | None
    now: float | None
    spread: float | None

    @property
    def same(self) -> bool:
        """Whether both values are the same to the last digit."""
        return self.then == self.now

    @property
    def difference(self) -> float | None:
        """The new value minus the old one; `None` if one of them is missing."""
        return None if self.then is None or self.now is None else self.now - self.then

    @property
    def within(self) -> bool:
        """Whether the values differ by no more than the references' spread."""
        # Without a spread, as for losses, there is nothing to judge a difference by.
        if self.same or self.spread is None:
            return True
        return self.difference is not None and abs(self.difference) <= self.spread


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A trial then and now.

    Args:
        recorded: the trial as it was recorded.
        pairs: its metrics then and now, without times.
        failure: why it fails now; `None` if it does not.
        code: version of the present code.
        deterministic: whether equal seeds give equal numbers now; on a CPU they always do.
    """

    recorded: RecordedTrial
    pairs: Mapping[str, Pair]
    failure: str | None
    code: str
    deterministic: bool = True

    @property
    def differing(self) -> dict[str, Pair]:
        """The metrics whose values differ."""
        return {name: pair for name, pair in self.pairs.items() if not pair.same}

    @property
    def beyond(self) -> list[str]:
        """The metrics that differ by more than the references' spread."""
        return [name for name, pair in self.pairs.items() if not pair.within]

    @property
    def identical(self) -> bool:
        """Whether everything is the same: metrics to the last digit, a failure word for word."""
        return not self.differing and self.failure == self.recorded.failure

    @property
    def confirmed(self) -> bool:
        """Whether it ended the same way: no metric beyond the spread, and it fails again or not."""
        failed_then, fails_now = self.recorded.failure is not None, self.failure is not None
        return failed_then == fails_now and not self.beyond

    @property
    def verdict(self) -> str:
        """The result of the rerun in one line."""
        return "; ".join(filter(None, (self._failures_in_words(), self._metrics_in_words())))

    def _failures_in_words(self) -> str:
        then, now = self.recorded.failure, self.failure
        if now is None:
            return f"does not fail now, unlike then: {then}" if then else ""
        if then is None:
            return f"fails now: {now}"
        return f"fails again: {now}" + ("" if now == then else f" (then: {then})")

    def _metrics_in_words(self) -> str:
        if not self.differing:
            return f"identical: {len(self.pairs)} metrics" if self.pairs else ""
        beyond = f"{len(self.beyond)} of them by more than" if self.beyond else "all within"
        differ = f"{len(self.differing)} of {len(self.pairs)} metrics differ"
        why = "" if self.deterministic else "; resources.deterministic was off on a GPU"
        return f"{differ}, {beyond} the references' spread{why}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return {
            "study": self.recorded.study,
            "trial": self.recorded.trial,
            "identical": self.identical,
            "confirmed": self.confirmed,
            "metrics": {
                name: {"then": pair.then, "now": pair.now, "spread": pair.spread}
                for name, pair in self.pairs.items()
            },
            "failure": {"then": self.recorded.failure, "now": self.failure},
            "code": {"then": self.recorded.code, "now": self.code},
            "deterministic": self.deterministic,
        }


def repeat(target: str, settings: Sequence[str], home: Path, session: Session) -> Reproduction:
    """Run a recorded trial again for as many epochs, and compare.

    Missing references are trained first, because gaps are distances to them.

    Args:
        target: id of the trial's MLflow run, or STUDY/TRIAL of a study in the home.
        settings: `key=value` settings on top of the experiment: where data, store and MLflow are
            on this machine, and the resources of a trial.
        home: where results are kept; only its store and data cache are written to.
        session: the session of the command, for training references.

    Raises:
        InputError: there is no such trial, or data, splits or settings differ from the recorded.
        MixUnlearnError: MLflow does not answer, or a reference could not be trained.
    """
    plan, recorded = find_trial(target, settings, home)
    require_resources(plan.experiment)
    code = code_version()
    if recorded.code not in {None, code}:
        session.progress.say(f"recorded with code {recorded.code}; the present code is {code}")
    if plan.references.missing():
        plan = _filled(plan, session)
    metrics, failure = run_again(plan, recorded, session.progress)
    pairs = _pairs(recorded.metrics, metrics, plan.references.evaluator("val").references)
    if metrics and not pairs:
        raise MixUnlearnError(f"{target} has no metrics of the trial: there is nothing to compare")
    resources = plan.experiment.resources
    return Reproduction(
        recorded=recorded,
        pairs=pairs,
        failure=failure,
        code=code,
        deterministic=resources.deterministic or not resources.gpu,
    )


def run_again(
    plan: Plan, recorded: RecordedTrial, progress: Progress
) -> tuple[Metrics, str | None]:
    """Run a trial for as many epochs as were recorded; a failed one for one more.

    Returns:
        Metrics after the last recorded epoch, and why the trial fails; `None` if it does not.
    """
    search, problem = plan.experiment.search, plan.problem()
    device = select_device(plan.experiment.resources)
    problem.computing.apply(device)
    # A failed trial fails in the epoch after the last recorded one.
    last = min(recorded.epochs + (recorded.failure is not None), plan.epochs)
    metrics: Metrics = {}
    try:
        trial = Trial(
            problem, plan.experiment.method, recorded.hyperparameters, recorded.seed, device
        )
        while trial.epochs_done < last:
            progress.show(f"epoch {trial.epochs_done + 1} of {last}")
            found = trial.epoch()
            # If a failed trial passes its epoch now, that epoch has nothing to be compared with.
            if trial.epochs_done <= recorded.epochs:
                metrics = plain(found)  # in the form in which they are recorded
    except Exception as error:
        # Worded as a worker words it, because failures are compared word for word.
        return metrics, reason(error)
    # A diverged trial raises nothing: Ray's worker reports NaN, and the study calls it failed.
    if recorded.failure and metrics and metrics.get(search.objective) is None:
        return metrics, f"{search.objective} is not a number"
    return metrics, None


def select_device(resources: Resources) -> torch.device:
    """Set the number of threads and return the device, as in a worker with these resources.

    The number of threads changes the last digits of results.
    """
    torch.set_num_threads(max(1, int(resources.cpu)))
    return torch.device("cuda" if resources.gpu else "cpu")


def spread(references: ReferenceSet, name: str) -> float | None:
    """Return the references' spread in a metric: their sd, but at least the resolution.

    A gap has the spread of its metric; the unit of a z value is the spread itself. `None` if the
    references do not have the metric, for example for losses.
    """
    if name.startswith("z/"):
        return 1.0
    metric, step = name.removeprefix("gap/"), references.resolution
    if name == "gap/avg":
        values = references.own_gaps()
        least = float(np.mean([step.get(each, 0.0) for each in references.gap_metrics]))
    elif metric in references.evaluations[0].metrics or metric == "div/js":
        values, least = references.values(metric), step.get(metric, 0.0)
    else:
        return None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    # A spread of 0 would call the last digit a difference.
    return max(sd, least) or None


def _filled(plan: Plan, session: Session) -> Plan:
    """Train the missing references; return the plan with all of them."""
    require_home(plan.home)
    session.lock(plan)  # a sweep of this study must not train the same references meanwhile
    plan = plan.mapped()  # because workers read the images too
    fill_references(plan, session)
    return plan


def _pairs(then: Metrics, now: Metrics, references: ReferenceSet) -> dict[str, Pair]:
    """Return the metrics that both have, without times, which depend on the machine."""
    names = [name for name in now if name in then and not name.startswith("time/")]
    return {
        name: Pair(then=then[name], now=now[name], spread=spread(references, name))
        for name in names
    }
