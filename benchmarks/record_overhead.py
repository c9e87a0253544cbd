"""The cost of being able to resume: seconds spent on it, divided by the seconds of the trials.

This counts everything that the driver and the worker of a trial do so that a study can be resumed
after an interruption: the proposal, which depends only on the record; the records of the proposal,
of each epoch and of the end; the study lock; the digests of checkpoints, the search for older ones
and their deletion. None of it runs in parallel to the training of the same trial. It is compared
with epochs of the same trial.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch

from benchmarks import publish, say, spread
from benchmarks.ray_efficiency import fill, plan_in
from distributed.search.checkpoints import Checkpoints
from distributed.search.session import open_study
from distributed.search.trials import CHECKPOINTS
from distributed.study.lock import StudyLock
from distributed.study.study import Study
from mixunlearn.trial import Trial
from trainables.checkpoint import latest, save_state

TARGET = 0.03
TRIALS = 40
EPOCHS = 16
REPEATS = 5


def main() -> None:
    """Measure both and print the result."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_in(Path(folder) / "home", {"trials": TRIALS, "epochs": EPOCHS})
        fill(plan)
        trial = Trial(
            plan.references.problem(with_labels=True),
            plan.experiment.method,
            plan.default,
            0,
            torch.device("cpu"),
        )
        metrics = trial.epoch()
        epoch = [seconds(trial.epoch) for _ in range(REPEATS)]
        plan.folder.mkdir(parents=True, exist_ok=True)
        with StudyLock(plan.study, plan.folder, None, say, lambda: None) as lock:
            study = open_study(plan, lock)
            recorded = [seconds(lambda: record(study, metrics)) for _ in range(TRIALS)]
        checkpoint = plan.folder / "checkpoint"
        checkpoint.mkdir()
        save_state(trial.state_dict(), checkpoint)
        hashes = [seconds(lambda: hashed(checkpoint)) for _ in range(REPEATS)]
        looked = seconds(lambda: latest(plan.checkpoints, "0000", ""))
        tidied = seconds(
            lambda: Checkpoints(plan.checkpoints, "gap/avg", plan.default).tidy(study.rows())
        )
    added = median(recorded) + CHECKPOINTS * median(hashes) + looked + tidied
    say(f"a trial of {EPOCHS * median(epoch):.2f} s: {1e3 * added:.0f} ms more")
    publish(
        "record_overhead",
        [added / (EPOCHS * one) for one in epoch],
        at_most=TARGET,
        of=f"trials of {EPOCHS} epochs on scikit-learn's digits, {TRIALS} in a SQLite record",
        epoch_s=spread(epoch),
        record_s=spread(recorded),
        digests_s=spread(hashes),
        looking_s=round(looked, 5),
        tidy_s=round(tidied, 5),
    )


def record(study: Study, metrics: Mapping[str, float]) -> None:
    """Propose a trial and record its epochs and its end."""
    number = int(study.ask()["trial"])
    for epoch in range(1, EPOCHS + 1):
        study.report(number, epoch, {**metrics, "gap/avg": 1.0 + number % 7})
    study.finish(number, "complete", seconds=1.0, error=None)


def hashed(folder: Path) -> None:
    """Compute the digests of the checkpoint in a folder: the additional work when it is saved."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
