"""How efficiently a search uses the machine: 40 trials, as many at once as there are CPUs.

The search is the sweep's own, with study, searcher, callback and tracking in a fresh database. It
is measured from before Ray starts until the end of the last trial. It is compared with the same
trial in plain processes without Ray: alone, and with all CPUs busy, which makes many machines
slower.
"""

import math
import os
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from rich.console import Console

from benchmarks import publish, say, spread
from distributed.cluster.connection import slots
from distributed.config.read import make_experiment
from distributed.plan.make import make_plan
from distributed.plan.plan import Plan
from distributed.runtime.addresses import embedded
from distributed.runtime.count import Count
from distributed.runtime.progress import Progress
from distributed.runtime.signals import Stop
from distributed.search.runs import tracked as tracking
from distributed.search.session import Session, open_study
from distributed.search.sweep import make_callback
from distributed.search.trials import search
from distributed.tracking.tracker import Tracker
from mixunlearn.trial import Trial

TARGET = 0.8
TRIALS = 40
EPOCHS = 16  # about 5 seconds a trial
PLAIN_TRIALS = 2  # of each plain process, before the search and after it

# Parameters that affect the time of an epoch are fixed; the others are searched as usual. The
# learning rate stays in a range in which no trial diverges and ends early.
SPACE = {"gen_interval": 4, "stage": "pool2", "pairing": "any", "lr": [1e-5, 3e-4]}

_barrier: Barrier  # makes plain processes compute at the same time


@dataclass(frozen=True, kw_only=True)
class Run:
    """A search and how long its parts took.

    Args:
        rows: rows of the trials, by number.
        slots: number of trials that ran at once.
        first_epoch_s: seconds from before Ray's start to the end of the first epoch.
        seconds: seconds from the same moment to the end of the last trial.
        drained_s: seconds after that until MLflow had everything.
        driver_cpu_s: CPU seconds of this process with all its threads, until then.
    """

    rows: list[dict[str, Any]]
    slots: int
    first_epoch_s: float
    seconds: float
    drained_s: float
    driver_cpu_s: float


def main() -> None:
    """Measure plain processes and the search, and print the result."""
    os.environ.pop("RAY_ADDRESS", None)  # this machine is measured, not a cluster
    os.environ["OMP_NUM_THREADS"] = "1"  # as Ray sets it for a trial with one CPU
    settings = {"trials": TRIALS, "epochs": EPOCHS, "scheduler": "none", "space": SPACE}
    cpus = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        fill(plan_in(home, settings))
        plain = [plain_trials(home, settings, count) for count in (1, cpus)]
        run = run_search(plan_in(home, settings))
        # Measured again, because other load on the machine may have changed in the meantime.
        again = [plain_trials(home, settings, count) for count in (cpus, 1)]
    require_complete(run)
    report(run, plain[0] + again[1], plain[1] + again[0])


def report(run: Run, alone: list[float], together: list[float]) -> None:
    """Print the result."""
    spent = run.slots * run.seconds
    in_steps = [row["seconds"] for row in run.rows]
    start = f"first epoch done after {run.first_epoch_s:.1f} s"
    say(f"{TRIALS} trials, {run.slots} at once: {run.seconds:.1f} s, {start}")
    say(f"efficiency against a trial alone: {TRIALS * median(alone) / spent:.3f}")
    publish(
        "ray_efficiency",
        [TRIALS * seconds / spent for seconds in together],
        at_least=TARGET,
        of=f"a trial in one of {run.slots} plain processes at once",
        against_alone=spread([TRIALS * seconds / spent for seconds in alone]),
        steps_share=round(sum(in_steps) / spent, 4),
        trials=TRIALS,
        epochs=EPOCHS,
        slots=run.slots,
        search_s=round(run.seconds, 2),
        first_epoch_s=round(run.first_epoch_s, 2),
        driver_cpu_s=round(run.driver_cpu_s, 2),
        trial_alone_s=spread(alone),
        trial_together_s=spread(together),
        trial_in_ray_s=spread(in_steps),
    )


def plan_in(home: Path, settings: Mapping[str, object], uri: str | None = None) -> Plan:
    """Return the plan of a search on scikit-learn's digits, after writing its data.

    Args:
        home: folder of the results.
        settings: of the search.
        uri: address of MLflow; by default a database in the home.
    """
    experiment = make_experiment(
        {
            "name": "benchmark",
            "data": {"source": "digits"},
            "model": {"name": "cnn"},
            "task": {"kind": "class", "classes": [0]},
            "references": {"seeds": 2, "epochs": 4},
            "search": dict(settings),
            "resources": {"cpu": 1, "gpu": 0},
            "tracking": {"uri": uri or embedded(home)[0]},
        }
    )
    return make_plan(experiment, home, command="make bench").keep()


def fill(plan: Plan) -> None:
    """Train the original and the references without Ray; this is not measured."""
    plan.references.fill()


def plain_trials(home: Path, settings: Mapping[str, object], processes: int) -> list[float]:
    """Return the seconds of trials in plain processes that compute at the same time."""
    context = get_context("spawn")
    with ProcessPoolExecutor(
        processes,
        mp_context=context,
        initializer=_enter,
        initargs=(context.Barrier(processes),),
    ) as pool:
        found = [pool.submit(_plain_trials, home, settings) for _ in range(processes)]
        result = [seconds for future in found for seconds in future.result()]
    say(f"a trial without Ray, {processes} at once: {median(result):.2f} s")
    return result


def _enter(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 - a process can only get a barrier when it starts
    _barrier = barrier


def _plain_trials(home: Path, settings: Mapping[str, object]) -> list[float]:
    torch.set_num_threads(1)
    plan = plan_in(home, settings)
    problem = plan.references.problem(with_labels=True)
    _barrier.wait()
    result = []
    for seed in range(PLAIN_TRIALS):
        start = time.perf_counter()
        trial = Trial(problem, plan.experiment.method, plan.default, seed, torch.device("cpu"))
        for _ in range(EPOCHS):
            trial.epoch()
        result.append(time.perf_counter() - start)
    return result


def run_search(plan: Plan, *, tracked: bool = True, watch: "Watch | None" = None) -> Run:
    """Run a sweep's search, as `run_sweep` does.

    Args:
        plan: its reference store must be full.
        tracked: whether the search is logged to MLflow.
        watch: is told of each epoch and each end of a trial.
    """
    watch = watch or Watch()
    problem = plan.references.problem(with_labels=plan.experiment.labels == "aware")
    start, cpu_start = time.perf_counter(), time.process_time()
    problems: list[str] = []
    with ExitStack() as stack:
        session = stack.enter_context(Session(address=None, progress=watch, stop=Stop()))
        tracker = cast(Tracker, NoTracker())
        delivery = stack.enter_context(ExitStack())
        if tracked:
            tracker, _ = delivery.enter_context(tracking(plan, session, problems))
        study = open_study(plan, session.lock(plan))
        callback = make_callback(plan, study, tracker, session)
        session.connect(plan, "")
        at_once = slots(plan.experiment.resources.cpu, plan.experiment.resources.gpu)
        search(plan, study, problem, callback, session)
        end = time.perf_counter()
        delivery.close()
        drained, cpu_end = time.perf_counter(), time.process_time()
    if problems:
        raise RuntimeError(problems[0])
    return Run(
        rows=sorted(callback.rows, key=lambda row: int(row["trial"])),
        slots=at_once,
        first_epoch_s=watch.first - start,
        seconds=end - start,
        drained_s=drained - end,
        driver_cpu_s=cpu_end - cpu_start,
    )


def require_complete(run: Run) -> None:
    """Check that all trials are complete: an early end would make the search look better."""
    short = [row for row in run.rows if row["state"] != "complete"]
    if short:
        raise RuntimeError(f"{len(short)} trials are not complete: {short[0]['error']}")


class Watch(Progress):
    """Records when the first epoch was done, and shows nothing."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.first = math.inf

    def show(self, line: str, *, event: bool = False, count: Count | None = None) -> None:
        """Record when work was counted first."""
        if count and count.share:
            self.first = min(self.first, time.perf_counter())


class NoTracker:
    """Accepts the calls of a `Tracker`, and does nothing."""

    def __getattr__(self, name: str) -> object:
        return lambda *_, **__: []


if __name__ == "__main__":
    main()
