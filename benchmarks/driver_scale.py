"""Whether a trial costs the driver of a sweep as much after 2,000 trials as after 100.

The record of a study gets so many finished trials; then 50 more run through the sweep's own search
on Ray: sampler, study, scheduler, checkpoints, trials table, tracking in a fresh database. Their
epochs compute nothing and return made-up metrics. What is left of a trial's time is what the driver
and Ray do for it. Proposals are measured alone, too: what Optuna's samplers need grows.

    PYTHONPATH=. .venv/bin/python benchmarks/driver_scale.py [TRIALS]
"""

import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import psutil
import torch
from optuna.trial import FixedTrial, Trial

from benchmarks import publish, say
from benchmarks.ray_efficiency import Watch, fill, plan_in, run_search
from distributed.plan.plan import Plan
from distributed.runtime.count import Count
from distributed.search import trials as trials_of_a_sweep
from distributed.study.attempt import Attempt
from distributed.study.sampling import Sampling
from distributed.study.study import Study
from mixunlearn.metrics.table import AVERAGE
from mixunlearn.resume import State
from trainables import unlearn
from trainables.unlearn import UnlearnTrainable

TARGET = 1.2
MANY, FEW = 2_000, 100  # trials that the record has
LAST, FIRST = (
    50,
    10,
)  # trials that run; those that are not measured, as MLflow is imported meanwhile
EPOCHS = 4
METRICS = 20
QUICK = ("random", "tpe", "cmaes")  # samplers; a Gaussian process takes a second, and then more
PROPOSALS = 7
SETTINGS = {"epochs": EPOCHS, "scheduler": "asha", "sampler": "tpe"}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a search had used when so many trials had ended.

    Args:
        trials: number of trials.
        wall_s: seconds since the first epoch.
        cpu_s: CPU seconds of the driver with all its threads.
        all_cpu_s: the same with all processes of Ray.
        memory: resident memory of the driver, in bytes.
    """

    trials: int
    wall_s: float
    cpu_s: float
    all_cpu_s: float
    memory: int


def main(many: int) -> None:
    """Run the last trials of a short and of a long study, and print the result."""
    os.environ.pop("RAY_ADDRESS", None)  # this machine is measured, not a cluster
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_after(Path(folder), FEW)
        asked = {name: [proposal_ms(plan, name, n) for n in (FEW, many)] for name in QUICK}
        say(f"CPU milliseconds of a proposal after {FEW} and {many} trials: {asked}")
        fill(plan)
        few, long = (run_alone(Path(folder), before) for before in (FEW, many))
    report(few, long, many, asked)


def report(few: list[Mark], long: list[Mark], many: int, asked: Mapping[str, list[float]]) -> None:
    """Print the result: CPU seconds of the driver, which other work disturbs least."""
    one, other = cost(few), cost(long)
    ratios = {name: round(other[name] / one[name], 3) for name in one}
    held = (long[-1].memory - few[-1].memory) / (many - FEW)
    publish(
        "driver_scale",
        [ratios["driver_cpu_ms"]],
        at_most=TARGET,
        of=f"the driver's CPU seconds of a trial after {many} others, compared with after {FEW}",
        each=ratios,
        few=one,
        many=other,
        driver_mib=[round(marks[-1].memory / 2**20) for marks in (few, long)],
        earlier_trial_kib=round(held / 1024, 1),
        proposal_ms=asked,
    )


def cost(marks: list[Mark]) -> dict[str, float]:
    """Return what a trial took in milliseconds, after the first ones."""
    before, after = marks[FIRST], marks[-1]
    count = after.trials - before.trials
    return {
        name: round(1000 * (getattr(after, key) - getattr(before, key)) / count, 2)
        for name, key in (
            ("wall_ms", "wall_s"),
            ("driver_cpu_ms", "cpu_s"),
            ("all_cpu_ms", "all_cpu_s"),
        )
    }


def proposal_ms(plan: Plan, sampler: str, before: int) -> float:
    """Return the CPU milliseconds of a proposal after so many trials, without the record."""
    drawing = Sampling(plan.space, plan.facts, "random", 0)
    asking = Sampling(plan.space, plan.facts, sampler, 0)
    earlier = [finished(number, *drawing.propose(number)) for number in range(before)]
    # As trials of an earlier sweep, except that CMA-ES would propose all of them again.
    asking.sampler = "random"
    asking.resume(earlier, AVERAGE)
    asking.sampler = sampler
    taken = []
    for number in range(before, before + PROPOSALS):
        start = time.thread_time()
        asking.propose(number)
        taken.append(1000 * (time.thread_time() - start))
    return round(median(taken), 1)


def finished(number: int, config: Mapping[str, Any], trial: Trial | FixedTrial) -> Attempt:
    """Return a proposed trial as one that has ended, with a random value."""
    value = random.Random(number).uniform(0, 5)
    return Attempt(
        key=number,
        config={**config, "trial": number},
        hyperparameters=trial.params,
        distributions=trial.distributions,
        began=datetime.now(),
        ended=datetime.now(),
        history={1: {AVERAGE: value}},
        row={"state": "complete", AVERAGE: value},
        state=State.COMPLETE,
    )


def run_alone(folder: Path, before: int) -> list[Mark]:
    """Run the last trials of a study in a process of its own; return a mark for each."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        marks = pool.submit(_run, folder, before).result()
    say(f"after {before} trials, {LAST} in {marks[-1].wall_s:.1f} s")
    return marks


def _run(home: Path, before: int) -> list[Mark]:
    torch.set_num_threads(1)
    plan = plan_after(home, before)
    write_trials(plan, before)
    watch = Marking()
    with mock.patch.object(trials_of_a_sweep, "UnlearnTrainable", Trivial):
        run = run_search(plan, watch=watch)
    if failed := [row["error"] for row in run.rows if row["state"] == "failed"]:
        raise RuntimeError(f"{len(failed)} trials failed: {failed[0]}")
    return watch.marks


def plan_after(home: Path, before: int) -> Plan:
    """Return the plan of a study with so many earlier trials; all share the references."""
    # By its seed, it is another study.
    return plan_in(home, {**SETTINGS, "seed": before, "trials": before + LAST})


def write_trials(plan: Plan, count: int) -> None:
    """Write finished trials with random configurations into a new record."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    study = Study(
        name=plan.study,
        storage=plan.record,
        method=plan.experiment.method,
        space=plan.space,
        facts=plan.facts,
        sampler="random",  # the quickest
        seed=plan.experiment.search.seed,
        objective=plan.experiment.search.objective,
    )
    with closing(study):
        for _ in range(count):
            config = study.ask()
            number = int(config["trial"])
            trial = Nothing(None, "", config, int(config["seed"]), None)
            epochs = (1, 1, 2, EPOCHS)[number % 4]  # as ASHA stops them
            for epoch in range(1, epochs + 1):
                study.report(number, epoch, trial.epoch())
            state = "complete" if epochs == EPOCHS else "pruned"
            study.finish(number, state, seconds=1.0, error=None)


class Marking(Watch):
    """Notes what the search has used at the end of each trial."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[Mark] = []
        self._process = psutil.Process()

    def show(self, line: str, *, event: bool = False, count: Count | None = None) -> None:
        """Count a trial's end, which is an event."""
        super().show(line, event=event, count=count)
        if event and line.startswith("trials:"):
            self.marks.append(self._mark())

    def _mark(self) -> Mark:
        tree = [self._process, *self._process.children(recursive=True)]
        return Mark(
            trials=len(self.marks),
            wall_s=time.perf_counter() - self.first,
            cpu_s=time.process_time(),
            all_cpu_s=sum(map(_cpu, tree)),
            memory=self._process.memory_info().rss,
        )


def _cpu(process: psutil.Process) -> float:
    with suppress(psutil.Error):  # it has just ended
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


class Trivial(UnlearnTrainable):
    """The sweep's trainable with trials that compute nothing."""

    def setup(self, *given: Any, **shared: Any) -> None:  # noqa: ANN401 - handed on
        """Put trials that compute nothing in place of the others, in this worker."""
        mock.patch.object(unlearn, "Trial", Nothing).start()
        super().setup(*given, **shared)


@dataclass
class Nothing:
    """A trial whose metrics are random numbers that depend on its seed alone."""

    problem: object
    method: str
    hyperparameters: Mapping[str, Any]
    seed: int
    device: object
    at_once: int = 1
    epochs_done: int = field(default=0, init=False)

    def epoch(self) -> dict[str, float]:
        """Do nothing; return metrics."""
        return self.unlearn() | self.evaluate()

    def unlearn(self) -> dict[str, float]:
        """Count an epoch."""
        self.epochs_done += 1
        return {}

    def evaluate(self) -> dict[str, float]:
        """Return metrics in which some configurations are better than others."""
        draw = random.Random(self.seed + self.epochs_done).uniform
        names = [f"acc/metric_{number}" for number in range(METRICS - 1)]
        gap = draw(0, 5) + 100 * float(self.hyperparameters.get("lr", 0))
        return {**{name: draw(0, 100) for name in names}, AVERAGE: gap}

    def state_dict(self) -> dict[str, Any]:
        """Return what the next epoch depends on."""
        return {"epochs_done": self.epochs_done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.epochs_done = int(state["epochs_done"])


if __name__ == "__main__":
    # By its name, from which Ray's workers import the trainable.
    from benchmarks import driver_scale  # noqa: PLW0406

    driver_scale.main(int(sys.argv[1]) if len(sys.argv) > 1 else MANY)
