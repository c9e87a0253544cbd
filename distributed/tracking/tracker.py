"""What a sweep calls to log something in MLflow, from a background thread.

A study has a parent run with a child run for each trial. Originals and references are runs of one
experiment that all studies share. All are found again by their tags, so a resumed sweep makes no
duplicates. What runs contain, and how to search them: see docs/tracking.md.
"""

import contextlib
import json
import math
import numbers
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from distributed.runtime.background import Background
from distributed.runtime.text import one_line, redact
from distributed.tracking.delivery_queue import MIB, DeliveryQueue, Spool
from distributed.tracking.run_buffer import (
    FINISHED,
    RUNNING,
    Record,
    Run,
    RunBuffer,
    Status,
    Upload,
)
from distributed.tracking.run_finder import RunIds
from distributed.tracking.server import set_defaults
from distributed.tracking.tags import DESCRIPTION, ERROR, REASON, STATE, TABLES
from distributed.tracking.writer import Writer
from mixunlearn.wording import counted

STATUS: dict[str, Status] = {
    "complete": FINISHED,
    "failed": "FAILED",
    "pruned": "KILLED",
    "stopped": "KILLED",
}
SPOOL_BYTES = 64 * MIB  # enough for about a hundred thousand epochs
SHOWN = 5  # names of deleted runs in a message


class Tracker:
    """Writes one study to MLflow from a background thread.

    Every method that logs something returns within microseconds and never raises because of
    MLflow: it only enqueues a record. The thread sends all records that wait, with all metrics of
    a run in one call. While MLflow does not answer, records wait in a file; once it answers again,
    they are sent in order and only once. Records that an earlier process could not send go first.
    Files to upload wait in memory: a command that runs again logs them again.

    Args:
        uri: the tracking address, see `resolve`.
        artifact_location: where a new experiment keeps its files; None: the server decides.
        experiment: name of the MLflow experiment.
        study: name of the study; the parent run and its trials are found again by this tag.
        spool: path of the spool, in an existing folder; only one process at a time may use it. The
            ids of the runs are kept beside it, in a file of the same name that ends in `.json`.
        say: called from the thread with one line when MLflow stops answering or answers again, and
            when the spool is nearly full.
        spool_bytes: maximal size of the spool; records beyond it are dropped.
        recreate: whether runs that somebody has deleted in MLflow are made again.
        first_s: seconds until the first delivery, unless the caller waits for an answer.
        view: what MLflow's page of the experiment shows of the study, see `saved_view`.
    """

    def __init__(
        self,
        *,
        uri: str,
        artifact_location: str | None,
        experiment: str,
        study: str,
        spool: Path,
        say: Callable[[str], None],
        spool_bytes: int = SPOOL_BYTES,
        recreate: bool = False,
        first_s: float = 0.0,
        view: str = "",
    ) -> None:
        set_defaults()
        self._name, self._study, self._say = f"MLflow at {uri}", study, say
        self._buffer, self._spool = RunBuffer(study), Spool(spool)
        self._writer = Writer(
            uri=uri,
            artifact_location=artifact_location,
            experiment=experiment,
            study=study,
            ids=RunIds(spool.with_suffix(".json")),
            recreate=recreate,
            view=view,
        )
        self._queue = DeliveryQueue(
            buffer=self._buffer,
            spool=self._spool,
            limit=spool_bytes,
            send=lambda: self._writer.deliver(self._buffer, self._background.hurried),
            say=say,
            name=self._name,
        )
        self._background = Background(self._queue, "mixunlearn-tracking", first_s)
        # The first message: what an earlier process left goes before everything new.
        self._background.put(self._spool.open)
        self._background.start()

    def start_study(
        self,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        description: str,
        *,
        running: bool = True,
    ) -> None:
        """Start the parent run, or continue the one of an earlier sweep of the same study.

        An empty description leaves the run's own. If it is not `running`, an existing run keeps its
        status.
        """
        note = {DESCRIPTION: description} if description else {}
        self._start(None, name, params, {**tags, **note}, running=running)

    def start_trial(
        self,
        trial: int,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        *,
        running: bool = True,
    ) -> None:
        """Start the run of a trial under the parent, or continue an existing one.

        If it is not `running`, an existing run keeps its status.
        """
        self._start(trial, name, params, tags, running=running)

    def log_inputs(self, inputs: Sequence[Mapping[str, str]]) -> None:
        """Log the data sets of a study with its parent run; those that the run has are skipped.

        Args:
            inputs: for each data set, the fields of MLflow's `Dataset` ("name", "digest" of at most
                36 characters, "source_type", "source", "schema", "profile"), and its role as
                "context".
        """
        plain = [_texts(each) for each in inputs]
        self._put(Record(time_ms=_now_ms(), inputs=plain))

    def log_epoch(
        self, trial: int | None, step: int, metrics: Mapping[str, float], time_ms: int | None = None
    ) -> None:
        """Log metrics of one step; a step that the run has already is skipped.

        Args:
            trial: number of the trial, None for the parent.
            step: the epoch, from 1; for the parent: the number of trials that have ended.
            metrics: metrics of the step.
            time_ms: time in ms since 1970; by default now. MLflow keeps a value only once if it is
                sent again with the same time and step, for example after a process died.
        """
        when = _now_ms() if time_ms is None else time_ms
        self._put(Record(run=trial, time_ms=when, step=step, metrics=_numbers(metrics)))

    def finish_trial(
        self,
        trial: int,
        state: str,
        metrics: Mapping[str, float],
        error: str | None,
        reason: str = "",
    ) -> None:
        """End a trial as "complete", "failed" or "pruned", with its final metrics.

        Args:
            trial: number of the trial.
            state: becomes MLflow's status FINISHED, FAILED or KILLED, and a tag.
            metrics: logged at the run's last step if they differ from that epoch's.
            error: why it failed; becomes a tag, which replaces the tag of an earlier attempt.
            reason: why it has no more epochs, in words; becomes a tag in the same way.
        """
        self._finish(trial, state, metrics, {ERROR: error or "", REASON: reason})

    def log_reference(
        self,
        key: str,
        name: str,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> None:
        """Log an original or a reference: once under its key, even if many studies use it.

        Tags link the study and the reference in both directions.
        """
        self._start(key, name, params, tags, running=True)
        self._finish(key, "complete", metrics, {})

    def set_tags(self, trial: int | None, tags: Mapping[str, str]) -> None:
        """Set tags of a trial's run, or of the parent run."""
        self._put(Record(run=trial, time_ms=_now_ms(), tags=_texts(tags)))

    def log_table(self, path: Path) -> None:
        """Copy a table to the parent run, so that the UI shows it as a table.

        Args:
            path: a JSON file, {"columns": [...], "data": [[...]]}; it must exist until `close`.
        """
        self.log_artifact(None, path)
        self.set_tags(None, {TABLES: json.dumps([{"path": path.name, "type": "table"}])})

    def log_model(self, trial: int, folder: Path, name: str, tags: Mapping[str, str]) -> None:
        """Log a trial's model and register it; a second call for the trial adds no version.

        Args:
            trial: number of the trial.
            folder: a model in MLflow's format; it must exist until `close`.
            name: name of the registered model.
            tags: tags of the model's version.
        """
        self._upload(Upload(run=trial, path=folder.absolute(), model=name, tags=_texts(tags)))

    def has_model(self, name: str, trial_id: str, timeout_s: float) -> bool:
        """Return whether a trial's model is registered; False if MLflow does not say so in time.

        Args:
            name: name of the registered model.
            trial_id: id of the trial.
            timeout_s: how long to wait, in seconds.
        """
        answer = queue.SimpleQueue[bool]()

        def ask() -> None:
            found = False
            # Not after a failed delivery: it would only wait for MLflow once more.
            with contextlib.suppress(Exception):
                found = not self._background.failure and self._writer.has_model(name, trial_id)
            answer.put(found)

        self._background.put_action(ask, at_once=True)
        with contextlib.suppress(queue.Empty):
            return answer.get(timeout=timeout_s)
        return False

    def log_artifact(self, trial: int | None, path: Path, folder: str = "") -> None:
        """Copy a file or a whole folder (under its name) to a trial's run, or to the parent run.

        Args:
            trial: number of the trial, None for the parent.
            path: path of the file or folder; it must exist until `close`.
            folder: where to put it in the run's artifacts.
        """
        self._upload(Upload(run=trial, path=path.absolute(), folder=folder))

    def call(self, action: Callable[[Mapping[int, str]], None], name: str = "") -> None:
        """Run `action(run ids by trial)` in the thread, also if MLflow does not answer.

        It runs after a try to send everything that was logged before.

        Args:
            action: what to run.
            name: an earlier action of this name that still waits does not run; empty: all run.
        """
        self._background.put_action(lambda: action(self._buffer.run_ids()), name=name)

    def run_ids(self, timeout_s: float) -> dict[int, str]:
        """Return the ids of the trials' runs that MLflow has, after sending what waits.

        Args:
            timeout_s: how long to wait, in seconds; the result is empty if it takes longer.
        """
        answer = queue.SimpleQueue[Mapping[int, str]]()
        self._background.put_action(lambda: answer.put(self._buffer.run_ids()), at_once=True)
        with contextlib.suppress(queue.Empty):
            return dict(answer.get(timeout=timeout_s))
        return {}

    def run_id(self, timeout_s: float) -> str | None:
        """Return the id of the parent run, after sending what waits; `None` if it is unknown.

        Args:
            timeout_s: how long to wait, in seconds.
        """
        answer = queue.SimpleQueue[str | None]()
        self._background.put_action(lambda: answer.put(self._buffer.parent.run_id), at_once=True)
        with contextlib.suppress(queue.Empty):
            return answer.get(timeout=timeout_s)
        return None

    def finish_study(self, state: str, metrics: Mapping[str, float]) -> None:
        """End the parent run as "complete", "failed" or "stopped"."""
        self._finish(None, state, metrics, {})

    def close(self, timeout_s: float) -> list[str]:
        """Send what waits, stop the thread, and return the problems, one line for each.

        Args:
            timeout_s: how long to wait, in seconds; after that, the run that is being sent is
                finished, and the others stay in the spool.

        Returns:
            The problems; empty if MLflow has everything.
        """
        done = self._background.close(timeout_s)
        failure = self._background.failure
        reason = f": {one_line(failure)}" if failure else ""
        lacking = self._queue.problems()
        if not done:
            lacking.append(f"{self._name} did not get everything within {timeout_s:g} s{reason}")
        elif failure or self._queue.missing:
            lacking.append(
                f"{self._name} lacks parts of {counted(self._queue.missing, 'run')}{reason}"
            )
        remedy = f"; once MLflow answers again: mixunlearn sync {self._study}"
        lines = [*self._writer.refused, *map(one_line, self._background.problems)]
        lines += [line + remedy for line in lacking]
        self._tell_deleted()
        # Each line once: many runs may fail for one reason.
        return list(dict.fromkeys(redact(line) for line in lines))

    def _tell_deleted(self) -> None:
        """Say which runs get nothing, because somebody has deleted them in MLflow."""
        if names := self._buffer.deleted():
            more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
            self._say(
                f"deleted in MLflow, and left so: {', '.join(names[:SHOWN])}{more}; restore them "
                f"there, or make them again with: mixunlearn sync {self._study} --recreate"
            )

    def _start(
        self,
        run: Run,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        *,
        running: bool,
    ) -> None:
        self._put(
            Record(
                run=run,
                time_ms=_now_ms(),
                status=RUNNING if running else None,
                name=_text(name),
                params=_texts(params),
                tags=_texts(tags),
            )
        )

    def _finish(
        self, run: Run, state: str, metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> None:
        self._put(
            Record(
                run=run,
                time_ms=_now_ms(),
                status=STATUS.get(state, FINISHED),
                metrics=_numbers(metrics),
                tags=_texts({**tags, STATE: state}),
            )
        )

    def _put(self, record: Record) -> None:
        self._background.put(partial(self._queue.note, record))

    def _upload(self, upload: Upload) -> None:
        self._background.put(partial(self._queue.note_upload, upload))


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {name: _text(value) for name, value in values.items()}


def _text(value: object) -> str:
    """Return `value` as valid UTF-8 text; a character that is not becomes a question mark."""
    return str(value).encode(errors="replace").decode()


def _numbers(values: Mapping[str, object]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}


def _number(value: object) -> float | None:
    """Return `value` as a float; NaN if it is not a number; None stays None."""
    if isinstance(value, numbers.Real):
        with contextlib.suppress(OverflowError):
            return float(value)
    return None if value is None else math.nan


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
