"""A trial in Ray Tune: one configuration, a step is an epoch."""

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mixunlearn.errors import DivergedError
from mixunlearn.files import Files
from mixunlearn.problem import Problem
from mixunlearn.resume import FAILURE, continues
from mixunlearn.trial import Trial
from mixunlearn.trial_names import trial_name
from trainables.checkpoint import identity, latest, save_state
from trainables.crew import crew_of_trial
from trainables.hardware import at_once, cpus_of, gpus_of, select_device
from trainables.stored import Stored

RECORDED = "recorded"  # key of the configuration: how many epochs the record has
IDENTITY = ("seed", "trial", RECORDED)  # keys of the configuration that are not hyperparameters
TRACE = "trace"  # key in a result: where the trial failed
PATIENCE_S = 15.0  # minimum time after the limit before a trial that does not end is killed


class UnlearnTrainable(Stored):
    """Runs a `Trial`; the configuration is flat: hyperparameters, `trial`, `seed`, `recorded`.

    A trial that an earlier sweep started continues from its last complete checkpoint; see
    `mixunlearn.resume`.
    """

    def setup(
        self,
        config: dict[str, Any],
        problem: Problem,
        method: str,
        objective: str,
        checkpoints: Files,
        limit: float | None,
        most: int | None = None,
    ) -> None:
        """Receive the problem, once for all trials that this actor will run.

        Args:
            config: hyperparameters, `trial`, `seed` and, except in tests, `recorded`.
            problem: what is to be unlearned.
            method: a key of `METHODS`.
            objective: the metric that is NaN if a trial fails.
            checkpoints: folder with the checkpoints of earlier sweeps of the study.
            limit: seconds that a trial may take; its last epoch may end later. `None` means no
                limit.
            most: number of trials that are to run; `None`: unknown.
        """
        self.problem, self.method, self.objective = problem, method, objective
        self.checkpoints, self.limit = checkpoints, limit
        given = self.trial_resources
        cpus, gpus = cpus_of(given), gpus_of(given)
        self.at_once = at_once(cpus, gpus, most)
        self.device = select_device(cpus, problem.computing, gpus)
        self.crew = crew_of_trial(problem, method, gpus, self.device)
        # Tune calls `reset_config` only when it reuses the actor.
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another trial; no state of the previous one remains."""
        hyperparameters = {key: new_config[key] for key in new_config if key not in IDENTITY}
        seed = new_config["seed"]
        self.identity = identity(self.method, hyperparameters, seed)
        self.crew.start(self.method, hyperparameters, seed)
        self.trial = Trial(
            self.problem, self.method, hyperparameters, seed, self.device, at_once=self.at_once
        )
        self.seconds = 0.0
        self.result: dict[str, Any] = {}
        self.again: dict[str, Any] = {}  # a result that the next step reports again
        name, known = trial_name(new_config["trial"]), new_config.get(RECORDED)
        # This run's own checkpoints are in the record: an epoch is recorded before it is saved.
        state = latest(self.checkpoints, name, self.identity, known, own=self.own_run)
        if continues(state):
            self._restore(state)
            self.again = dict(self.result)
        return True

    def step(self) -> dict[str, Any]:
        """Unlearn for one epoch, or report the checkpoint's epoch again after a restart."""
        if self.again:
            result, self.again = self.again, {}
            return {**result, **self.news()}
        start = time.perf_counter()
        with self._limited():
            metrics = self._epoch()
        self.seconds += time.perf_counter() - start
        self.result = {**metrics, "epoch": self.trial.epochs_done, "seconds": self.seconds}
        # A copy: what is added to it does not belong in a checkpoint.
        return {**self.result, **self.news()}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write everything that the next epoch depends on."""
        state = {
            "identity": self.identity,
            "trial": self.trial.state_dict(),
            "result": self.result,
            "seconds": self.seconds,
        }
        save_state(state, Path(checkpoint_dir))

    def _epoch(self) -> Mapping[str, Any]:
        """Return the metrics of an epoch, or why the configuration cannot be used.

        An exception of a method ends the trial, because a retry would raise it again; only dead
        workers are retried.
        """
        try:
            with self.crew.epoch():
                losses = self.trial.unlearn()
            return losses | self.trial.evaluate()
        except Exception as error:
            # NaN instead of no value: Tune insists on the metric in every result.
            failed = {FAILURE: reason(error), TRACE: traceback.format_exc()}
            return {self.objective: float("nan"), **failed, "done": True}

    def cleanup(self) -> None:
        """End the processes of this worker's trials."""
        self.crew.end()

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Kill this worker if an epoch hangs: there is no other way to end a hanging epoch."""
        if self.limit is None:
            yield
            return
        # At least twice the limit, because the last epoch may end after the limit.
        left = self.limit + max(self.limit, PATIENCE_S) - self.seconds
        # SIGKILL from a thread: an exception would not reach code that hangs outside of Python.
        timer = threading.Timer(max(left, 0.0), os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.crew.load(state["trial"])
        self.trial.load_state_dict(state["trial"])
        self.result, self.seconds = dict(state["result"]), state["seconds"]


def reason(error: Exception) -> str:
    """Return in one line why a configuration cannot be used."""
    text = " ".join(str(error).split())
    if isinstance(error, DivergedError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
