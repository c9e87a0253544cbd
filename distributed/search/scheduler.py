"""Tune's schedulers, which also learn the epochs of earlier sweeps and stop gracefully."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from distributed.config.experiment import Search
from distributed.runtime.signals import Stop
from distributed.search.unsaved import Unsaved
from distributed.study.study import Study
from mixunlearn.resume import EpochLog, Report

# Ray's own 4 would give a search of ten epochs only the rungs 1 and 4.
REDUCTION_FACTOR = 2  # of ASHA: at each rung, half of the trials continue
EPOCH = "epoch"  # counts across interruptions; Tune's own count starts again at 1


class Resumed(Unsaved):
    """Makes a scheduler decide as if the study had never been interrupted.

    A scheduler's decisions depend on all epochs that it has seen. So it first gets the epochs of
    earlier sweeps. Epochs that a trial repeats after it has resumed from its checkpoint are not
    passed on twice, see `mixunlearn.resume`. Once a stop is requested, trials are paused, which
    writes a checkpoint, and no trial is started.
    """

    study: Study
    stop: Stop

    def resume(self, study: Study, stop: Stop) -> "Resumed":
        """Learn all epochs of earlier sweeps from the study; return the scheduler."""
        self.study, self.stop = study, stop
        self._told = EpochLog()
        self._decided: dict[int, str] = {}  # trial -> what was decided after its latest epoch
        for row in study.rows():
            # A complete trial's last epoch comes with `on_trial_complete`, as in a live sweep.
            past = _Past(row["trial"])
            # ASHA looks trials up in what it added here.
            super().on_trial_add(_NOBODY, past)  # type: ignore[misc]
            self._catch_up(_NOBODY, past, row["epochs"] + (row["state"] != "complete"))
            if row["state"] != "failed":
                last = study.history(row["trial"])[row["epochs"]]
                self.on_trial_complete(_NOBODY, past, {**last, EPOCH: row["epochs"]})
        return self

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Decide whether a trial continues."""
        number, epoch = trial.config["trial"], result[EPOCH]
        report = self._told.kind(number, epoch)
        if report is Report.NEW:
            self._catch_up(tune_controller, trial, epoch)
            self._told.add(number, epoch)
            self._decided[number] = super().on_trial_result(tune_controller, trial, result)  # type: ignore[misc]
        # A worker may die before it gets the decision; the repeated epoch gets the same decision.
        earlier = report is Report.EARLIER_AGAIN
        decision = TrialScheduler.CONTINUE if earlier else self._decided[number]
        if decision == TrialScheduler.CONTINUE and self.stop.asked:
            return str(TrialScheduler.PAUSE)
        return str(decision)

    def on_trial_complete(
        self, tune_controller: Any, trial: Any, result: Mapping[str, Any]
    ) -> None:
        """Record the last epoch of a trial; an epoch without a value is ignored."""
        value = result.get(self.study.objective)
        if value is None or value != value:  # noqa: PLR0124 - NaN
            return
        # A trial that resumes before its last epoch has passed on no epoch in this sweep.
        self._catch_up(tune_controller, trial, result[EPOCH])
        super().on_trial_complete(tune_controller, trial, result)  # type: ignore[misc]

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the trial to start next; `None` once a stop is requested."""
        return None if self.stop.asked else super().choose_trial_to_run(tune_controller)  # type: ignore[misc]

    def _catch_up(self, tune_controller: Any, trial: Any, epoch: int) -> None:
        """Pass on the earlier epochs that the study has and the scheduler does not."""
        number = trial.config["trial"]
        for past, metrics in self.study.history(number).items():
            if self._told.kind(number, past) is Report.NEW and past < epoch:
                known = {name: value for name, value in metrics.items() if value is not None}
                super().on_trial_result(tune_controller, trial, {**known, EPOCH: past})  # type: ignore[misc]
                self._told.add(number, past)


class _Past:
    """A trial of an earlier sweep, with only the attributes that schedulers read."""

    def __init__(self, number: int) -> None:
        self.trial_id, self.config = f"past-{number}", {"trial": number}


_NOBODY = SimpleNamespace(get_live_trials=list)  # a controller without running trials


class Asha(Resumed, AsyncHyperBandScheduler):
    """Asynchronous successive halving."""


class Median(Resumed, MedianStoppingRule):
    """Stops trials that are worse than the median of the others."""


class Fifo(Resumed, FIFOScheduler):
    """Lets every trial run to its end."""


def _asha(objective: str, epochs: int) -> Resumed:
    return Asha(
        time_attr=EPOCH,
        max_t=epochs,
        grace_period=1,
        reduction_factor=REDUCTION_FACTOR,
        metric=objective,
        mode="min",
    )


def _median(objective: str, epochs: int) -> Resumed:
    # Ray's own grace period of 60 is meant in seconds; the unit here is an epoch.
    return Median(
        time_attr=EPOCH, grace_period=1, min_samples_required=3, metric=objective, mode="min"
    )


SCHEDULERS: Mapping[str, Callable[[str, int], Resumed]] = {  # by objective and epochs
    "asha": _asha,
    "median": _median,
    "none": lambda objective, epochs: Fifo(),
}


def make_scheduler(search: Search, epochs: int, study: Study, stop: Stop) -> Resumed:
    """Return the scheduler of an experiment; its unit of time is the epoch, up to `epochs`.

    Raises:
        KeyError: `SCHEDULERS` has no scheduler of this name.
    """
    return SCHEDULERS[search.scheduler](search.objective, epochs).resume(study, stop)
