"""Where a trial's results go: study, MLflow, trials.parquet, checkpoints, progress."""

import time
from bisect import insort
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from ray import tune

from distributed.runtime.count import Count
from distributed.runtime.progress import Progress
from distributed.runtime.signals import Stop
from distributed.runtime.text import redact
from distributed.search.checkpoints import Checkpoints
from distributed.search.scheduler import EPOCH
from distributed.search.storage_news import StorageNews
from distributed.search.unsaved import Unsaved
from distributed.study.folder import StudyFolder
from distributed.study.sampling import constant
from distributed.study.study import Study
from distributed.study.trials_table import known_run_ids, write_trials
from distributed.tracking.tags import CODE, DESCRIPTION, TRIAL_ID
from distributed.tracking.tracker import Tracker
from mixunlearn.atomic import replacing
from mixunlearn.data.arrow import Dataset
from mixunlearn.errors import MixUnlearnError
from mixunlearn.metrics.table import is_metric
from mixunlearn.patience import disk_full
from mixunlearn.resume import FAILURE
from mixunlearn.trial_names import trial_name
from mixunlearn.wording import counted
from search_spaces import Space
from trainables.unlearn import TRACE

NAMED, NAME_LENGTH = 4, 80  # of a run's name: hyperparameters in it, and characters


class TrialCallback(Unsaved, tune.Callback):
    """Tune's callback: records each epoch and each end of a trial, and never waits for MLflow.

    Args:
        study: the record.
        tracker: MLflow's background writer.
        folder: folder of the study.
        dataset: the images; workers map its file.
        epochs: number of epochs after which a trial is complete.
        scheduler: name of the scheduler, for messages.
        trial_seconds: the time limit of a trial, if there is one.
        total: total number of trials in the study.
        tags: tags of each trial's MLflow run.
        checkpoints: checkpoints of the trials; those no longer needed are removed.
        stop: checked between events; ends Tune once running trials have checkpoints.
        progress: shows each epoch.
    """

    def __init__(
        self,
        *,
        study: Study,
        tracker: Tracker,
        folder: StudyFolder,
        dataset: Dataset,
        epochs: int,
        scheduler: str,
        trial_seconds: float | None,
        total: int,
        tags: Mapping[str, str],
        checkpoints: Checkpoints,
        stop: Stop,
        progress: Progress,
    ) -> None:
        self.study, self.tracker, self.folder = study, tracker, folder
        self.dataset = dataset
        self.checkpoints, self.stop = checkpoints, stop
        self.epochs, self.scheduler, self.trial_seconds = epochs, scheduler, trial_seconds
        self.tags, self.progress = dict(tags), progress
        self.rows = study.rows()
        # Counted here, not for each epoch that shows them: there may be thousands of rows.
        self._states = Counter(row["state"] for row in self.rows)
        # While MLflow is away, the new table still has the ids of the old one.
        self.run_ids = known_run_ids(folder.trials)
        self.count = Count(total, len(self.rows), unit="trials")
        self.epochs_done = 0
        self._running: dict[int, int] = {}  # trial -> epochs it has done
        self._heard: dict[int, float] = {}  # trial -> when, on this machine's clock
        self._hung: set[int] = set()
        self._so_far = SoFar()
        self._news = StorageNews(checkpoints.runs, progress.say)
        self._tidy()

    def may_start(self) -> bool:
        """Return whether a trial may start now; wait while the storage does not answer.

        Raises:
            Interrupted: a stop was requested while waiting.
            MixUnlearnError: the storage did not answer for too long, or the file of the images
                was damaged.
        """

        def waiting(error: Exception) -> None:
            self.stop.check()
            self._news.away(error)

        if not self.stop.asked:
            self.checkpoints.wait(waiting)
            self._news.back()
            self.dataset.restore()
        return not self.stop.asked

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._news.look()
        if self.stop.asked:
            # The scheduler pauses trials at their next epoch; raise when the last one has a
            # checkpoint, or when it takes too long.
            running = any(trial.status == "RUNNING" for trial in trials)
            if not running or self.stop.overdue:
                self.stop.check()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config["trial"]
        self._heard[number] = time.monotonic()
        self._open(number, self.study.config(number), running=True)
        self._show(trials, event=False)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number, epoch = trial.config["trial"], result[EPOCH]
        self._heard[number] = time.monotonic()
        self._news.result(trial, result)
        if FAILURE in result:  # the epoch failed and has no metrics
            return
        metrics = {name: result[name] for name in result if is_metric(name)}
        # The record first: what MLflow has and the record lacks could never be repaired.
        self.study.report(number, epoch, metrics)
        self.tracker.log_epoch(number, epoch, metrics, self.study.time_ms(number, epoch))
        self.epochs_done += 1
        self._running[number] = min(epoch, self.epochs)
        self.count.reach(self.count.done + sum(self._running.values()) / self.epochs)
        self._show(trials, event=False)

    def on_checkpoint(self, **info: Any) -> None:
        self._news.checkpoint()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result
        state, error = self._outcome(result)
        if trace := result.get(TRACE):
            self._keep_trace(trial.config["trial"], trace)
        self._finish(trial, state, error)
        self._show(trials, event=True)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.may_start()  # it will look for its checkpoint
        # A worker that hangs kills itself. Its trial is retried once, not `MAX_FAILURES` times.
        number = trial.config["trial"]
        if self.trial_seconds and time.monotonic() - self._heard[number] > self.trial_seconds:
            self._hung.add(number)
            trial.max_failures = 0

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        reason = last_line(trial.error_file)
        if disk_full(reason):
            # Not the trial's fault: it stays unfinished, and resumes when there is free space.
            raise MixUnlearnError(f"{reason}; free space there and run the same command again")
        # A worker that kills itself leaves no reason; Ray only reports that it died.
        if trial.config["trial"] in self._hung:
            limit = f"resources.trial_seconds = {self.trial_seconds:g}"
            reason = f"killed: an epoch took more than twice the limit, {limit}"
        if trial.error_file is not None and Path(trial.error_file).exists():
            trace = Path(trial.error_file).read_text(errors="replace")
            self._keep_trace(trial.config["trial"], trace)
        self._finish(trial, "failed", reason)
        self._show(trials, event=True)

    def resume(self) -> None:
        """Queue all finished trials for MLflow; what MLflow already has is not sent again.

        An earlier process may have died before everything was delivered.
        """
        for row in self.rows:
            self._open(row["trial"], self.study.config(row["trial"]), running=False)
            self._close(row)
        self._tell_progress()

    def write_table(self) -> None:
        """Write trials.parquet on the tracker's thread, not in Tune's event loop."""
        known, path = self.run_ids, self.folder.trials

        def write(run_ids: Mapping[int, str]) -> None:
            ids = {**known, **run_ids}
            # `sorted` makes a copy first: the event loop adds rows while the thread writes.
            rows = sorted(self.rows, key=lambda row: int(row["trial"]))
            write_trials([{**row, "mlflow_run_id": ids.get(row["trial"])} for row in rows], path)

        # Once for all trials that end meanwhile: it takes longer, the more there are.
        self.tracker.call(write, "table")

    def _outcome(self, result: Mapping[str, Any]) -> tuple[str, str | None]:
        """Return the state of a trial that ended without an exception, and the reason."""
        if FAILURE in result:
            return "failed", result[FAILURE]
        # First: a trial that reaches both ends with the same epoch is complete.
        if result[EPOCH] >= self.epochs:
            return "complete", None
        if self.trial_seconds and result["seconds"] >= self.trial_seconds:
            return "pruned", f"stopped after resources.trial_seconds = {self.trial_seconds:g}"
        return "pruned", None

    def _finish(self, trial: Any, state: str, error: str | None) -> None:
        number = trial.config["trial"]
        # A trial that failed in its first epoch has no result.
        seconds = (trial.last_result or {}).get("seconds", 0.0)
        # The record first; everything below is derived from it and can be repeated.
        row = self.study.finish(number, state, seconds=seconds, error=error)
        self._close(row)
        self._tell_progress()
        self.rows.append(row)
        self._states[row["state"]] += 1
        self._running.pop(number, None)
        self.count.finish()
        self.write_table()
        self._tidy()

    def _open(self, number: int, config: Mapping[str, Any], *, running: bool) -> None:
        hyperparameters = {name: value for name, value in config.items() if name != "trial"}
        tags = {**self.tags, TRIAL_ID: self.study.trial_id(config)}
        if running:
            tags[DESCRIPTION] = ""  # that of an earlier attempt
        if code := self.study.code(number):  # the code that ran the trial, not the present one
            tags[CODE] = code
        name = run_name(number, self.study.method, hyperparameters, self.study.space)
        self.tracker.start_trial(number, name, hyperparameters, tags, running=running)
        # A resumed trial reports only new epochs, and MLflow may lack earlier ones.
        for epoch, metrics in self.study.history(number).items():
            known = {name: value for name, value in metrics.items() if value is not None}
            self.tracker.log_epoch(number, epoch, known, self.study.time_ms(number, epoch))

    def _close(self, row: Mapping[str, Any]) -> None:
        number, state, error = row["trial"], row["state"], row["error"]
        metrics = {name: row[name] for name in row if is_metric(name)}
        metrics["time/trial_s"] = row["seconds"]
        reason = error or ""
        if state == "pruned" and not error:
            epochs = f"epoch {row['epochs']} of {self.epochs}"
            reason = f"stopped early by {self.scheduler} after {epochs}"
        self.tracker.finish_trial(number, state, metrics, error, reason)
        if reason:  # MLflow has one status, KILLED, for what was pruned and what was interrupted
            self.tracker.set_tags(number, {DESCRIPTION: f"{state}: {reason}"})
        if state == "failed" and (trace := self.folder.error(number)).exists():
            self.tracker.log_artifact(number, trace)

    def _tell_progress(self) -> None:
        """Log the best and median objective as metrics over the number of ended trials."""
        # From the record, with its times: a restarted sweep sends the same steps again.
        for ended_ms, value in self.study.outcomes(self._so_far.ended):
            metrics = self._so_far.add(value)
            self.tracker.log_epoch(None, self._so_far.ended, metrics, ended_ms)

    def _keep_trace(self, number: int, text: str) -> None:
        """Save a failed trial's traceback in the study's folder: Ray's folder is temporary."""
        with replacing(self.folder.error(number)) as temporary:
            # Addresses with passwords may be in the exception's message.
            temporary.write_text(redact(text), errors="replace")

    def _tidy(self) -> None:
        """Remove checkpoints that are no longer needed, on the tracker's thread."""
        # Deleting on a remote file system would delay Tune's loop.
        self.tracker.call(lambda run_ids: self.checkpoints.tidy(self.rows.copy()), "checkpoints")

    def _show(self, trials: list[Any], *, event: bool) -> None:
        running = sum(trial.status == "RUNNING" for trial in trials)
        best = self._so_far.best
        named = "" if best is None else f", best {self.study.objective} {best:.2f}"
        line = (
            # The best first: a narrow terminal cuts the end off.
            f"trials: {self.count.done} of {self.count.total} done{named}, "
            f"{self._states['pruned']} pruned, {self._states['failed']} failed, "
            f"{running} running, {counted(self.epochs_done, 'epoch')}"
        )
        self.progress.show(line, event=event, count=self.count)


class SoFar:
    """The best and the median objective of the trials that have ended."""

    def __init__(self) -> None:
        self.ended = 0
        self._values: list[float] = []  # sorted

    @property
    def best(self) -> float | None:
        """The best objective; `None` if no trial has a value yet."""
        return self._values[0] if self._values else None

    def add(self, value: float | None) -> dict[str, float]:
        """Add an ended trial and return both metrics; empty if no trial has a value yet.

        Args:
            value: the trial's objective; `None` if it failed.
        """
        self.ended += 1
        if value is not None:
            insort(self._values, value)
        if not self._values:
            return {}
        return {"so_far/best": self._values[0], "so_far/median": median(self._values)}


def run_name(number: int, method: str, hyperparameters: Mapping[str, Any], space: Space) -> str:
    """Return the name of a trial's run: number, method and the first hyperparameters that vary."""
    name = f"{trial_name(number)} {method}"
    varying = [key for key in space if key in hyperparameters and constant(space[key]) is None]
    for key in varying[:NAMED]:
        value = hyperparameters[key]
        longer = f"{name} {key}={format(value, '.2g') if isinstance(value, float) else value}"
        name = longer if len(longer) <= NAME_LENGTH else name
    return name


def last_line(error_file: str | None) -> str:
    """Return the last line of a trial's error file: the exception."""
    if error_file is None or not Path(error_file).exists():
        return "the worker died"
    lines = Path(error_file).read_text().strip().splitlines()
    return lines[-1].strip() if lines else "the worker died"
