"""Schedulers that continue: the same decisions for an interrupted and an uninterrupted study."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from ray.tune.schedulers import TrialScheduler

from distributed.config.experiment import Search
from distributed.runtime.signals import Stop
from distributed.search.scheduler import EPOCH, SCHEDULERS, Resumed, make_scheduler
from distributed.study.study import Study
from search_spaces import SPACES

EPOCHS, TRIALS = 8, 10
CONTROLLER = SimpleNamespace(get_live_trials=list)


def open_study(folder: Path) -> Study:
    return Study(
        name="study",
        storage=f"journal:///{folder / 'study.journal'}",  # opened in no time
        method="neggrad",
        space=SPACES["neggrad"]((), ""),
        facts={"labels": "aware"},
        sampler="random",
        seed=0,
        objective="gap/avg",
    )


class Trial:
    """The part of Tune's trial that schedulers use."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.trial_id, self.config, self.status = f"tune-{config['trial']}", config, "PENDING"


class Sweep:
    """Runs trials one after the other as Tune would, on fixed curves."""

    def __init__(self, folder: Path, kind: str, stop: Stop | None = None) -> None:
        self.study = open_study(folder)
        search = Search(epochs=EPOCHS, scheduler=kind)  # type: ignore[arg-type]
        self.scheduler: Resumed = make_scheduler(search, search.epochs, self.study, stop or Stop())
        self.decisions: list[tuple[int, int, str]] = []

    def trial(self, *, start: int = 1, die_after: int | None = None) -> None:
        """Run the next trial from an epoch on; optionally die after the decision on an epoch."""
        config = self.study.ask()
        trial = Trial(config)
        scheduler: Any = self.scheduler
        scheduler.on_trial_add(CONTROLLER, trial)
        number, result = int(config["trial"]), dict[str, Any]()
        for epoch in range(start, EPOCHS + 1):
            result = {"gap/avg": curve(number, epoch), EPOCH: epoch}
            decision = TrialScheduler.STOP
            if epoch < EPOCHS:
                decision = scheduler.on_trial_result(CONTROLLER, trial, result)
            self.decisions.append((number, epoch, decision))
            self.study.report(number, epoch, {"gap/avg": result["gap/avg"]})
            if epoch == die_after:
                return
            if decision == TrialScheduler.STOP:
                break
        scheduler.on_trial_complete(CONTROLLER, trial, result)
        state = "complete" if result[EPOCH] == EPOCHS else "pruned"
        self.study.finish(number, state, seconds=1.0, error=None)


def curve(number: int, epoch: int) -> float:
    noise = np.random.default_rng([number, epoch]).normal(scale=2.0)
    return float(10.0 + 3.0 * (number % 4) - epoch + noise)


@pytest.mark.parametrize("kind", ["asha", "median", "none"])
@pytest.mark.parametrize("fall_back", [0, 1])
def test_decisions_are_those_of_an_uninterrupted_sweep(
    tmp_path: Path, kind: str, fall_back: int
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = Sweep(tmp_path / "whole", kind)
    for _ in range(TRIALS):
        whole.trial()
    ended = {number: epoch for number, epoch, _ in whole.decisions}
    seen: dict[tuple[int, int], str] = {}
    for number in range(TRIALS):  # every trial is interrupted at its last decision, and continues
        first = Sweep(tmp_path / "cut", kind)
        first.trial(die_after=ended[number])
        second = Sweep(tmp_path / "cut", kind)
        second.trial(start=max(1, ended[number] - fall_back))
        for sweep in (first, second):
            for at, epoch, decision in sweep.decisions:
                assert seen.setdefault((at, epoch), decision) == decision
    assert seen == {(at, epoch): decision for at, epoch, decision in whole.decisions}
    if kind == "asha":
        assert set(ended.values()) > {EPOCHS}, "no trial was stopped early"


def test_an_epoch_that_is_repeated_is_not_counted_twice(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, "median")
    trial = Trial(sweep.study.ask())
    scheduler: Any = sweep.scheduler
    scheduler.on_trial_add(CONTROLLER, trial)
    for epoch in (1, 2, 1, 2, 3):
        scheduler.on_trial_result(CONTROLLER, trial, {"gap/avg": 1.0, EPOCH: epoch})
    assert [result[EPOCH] for result in scheduler._results[trial]] == [1, 2, 3]


def test_a_decision_that_a_worker_did_not_live_to_hear_is_made_again(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, "asha")
    scheduler: Any = sweep.scheduler
    good, bad = Trial(sweep.study.ask()), Trial(sweep.study.ask())
    decisions = []
    for trial, value in ((good, 1.0), (bad, 9.0)):
        scheduler.on_trial_add(CONTROLLER, trial)
        result = {"gap/avg": value, EPOCH: 1}
        decisions += [scheduler.on_trial_result(CONTROLLER, trial, result) for _ in range(2)]
        sweep.study.report(trial.config["trial"], 1, {"gap/avg": value})
    assert decisions == [TrialScheduler.CONTINUE] * 2 + [TrialScheduler.STOP] * 2


def test_once_a_stop_was_asked_for_trials_are_paused_and_none_is_started(tmp_path: Path) -> None:
    stop = Stop()
    sweep = Sweep(tmp_path, "none", stop)
    trial = Trial(sweep.study.ask())
    scheduler: Any = sweep.scheduler
    stop.asked = "SIGTERM"
    decision = scheduler.on_trial_result(CONTROLLER, trial, {"gap/avg": 1.0, EPOCH: 1})
    assert decision == TrialScheduler.PAUSE
    assert scheduler.choose_trial_to_run(CONTROLLER) is None


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_trial_that_ends_without_a_value_counts_for_nothing(
    tmp_path: Path, value: float | None
) -> None:
    sweep = Sweep(tmp_path, "asha")
    trial = Trial(sweep.study.ask())
    scheduler: Any = sweep.scheduler
    scheduler.on_trial_add(CONTROLLER, trial)
    scheduler.on_trial_complete(CONTROLLER, trial, {"gap/avg": value, EPOCH: 1})
    assert all(not recorded for _, recorded in scheduler._brackets[0]._rungs)


def test_an_experiment_may_name_the_schedulers_that_there_are() -> None:
    assert get_args(Search.model_fields["scheduler"].annotation) == tuple(SCHEDULERS)


def test_an_unknown_scheduler_is_an_error_not_another_one(tmp_path: Path) -> None:
    search = Search.model_construct(scheduler="hyperband", objective="gap/avg")
    with pytest.raises(KeyError, match="hyperband"):
        make_scheduler(search, 3, open_study(tmp_path), Stop())
