"""What a sweep tells MLflow, from a thread of its own.

One parent run a study, one child run a trial; originals and references are runs of an experiment
that all studies share. All are found again by their tags, so a sweep that continues doubles
nothing. What is on them, and how to search it: docs/tracking.md.
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

from distributed.runtime.addresses import embedded, resolve
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
)
from distributed.tracking.server import DEFAULTS, reachable, set_defaults
from distributed.tracking.tags import DESCRIPTION, ERROR, REASON, STATE, TABLES
from distributed.tracking.writer import SHARED, Writer

__all__ = [
    "DEFAULTS",
    "DESCRIPTION",
    "SHARED",
    "Tracker",
    "embedded",
    "reachable",
    "redact",
    "resolve",
    "set_defaults",
]
STATUS: dict[str, Status] = {
    "complete": FINISHED,
    "failed": "FAILED",
    "pruned": "KILLED",
    "stopped": "KILLED",
}
SPOOL_BYTES = 64 * MIB  # some hundred thousand epochs


class Tracker:
    """Writes one study to MLflow from a background thread.

    Every method but `close` returns within microseconds and never raises for MLflow's sake: it
    notes down what is added to a run. The thread sends what has gathered, all metrics of a run in
    one call. While MLflow is away, records wait in a file; they are sent once it is back, in order
    and once. What an earlier process could not send is sent first.

    Args:
        uri: the tracking address, see `resolve`.
        artifact_location: where a new experiment keeps its files; None: the server decides.
        experiment: name of the MLflow experiment.
        study: tag by which the parent run and its trials are found again.
        spool: the file, in a folder that is there; only one process at a time may use it.
        say: told from the thread, in one line each: MLflow is away, is back, the file nearly full.
        spool_bytes: the most that the file may hold; records beyond it are dropped.
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
    ) -> None:
        set_defaults()
        self._name, self._study = f"MLflow at {uri}", study
        self._buffer, self._spool = RunBuffer(study), Spool(spool)
        self._writer = Writer(uri, artifact_location, experiment, study)
        self._queue = DeliveryQueue(
            buffer=self._buffer,
            spool=self._spool,
            limit=spool_bytes,
            send=lambda: self._writer.deliver(self._buffer, self._background.hurried),
            say=say,
            name=self._name,
        )
        self._background = Background(self._queue, name="mixunlearn-tracking")
        self._background.put(self._spool.open)
        self._background.start()

    def start_study(
        self, name: str, params: Mapping[str, object], tags: Mapping[str, str], description: str
    ) -> None:
        """Open the parent run, or continue the one of an earlier sweep of the same study."""
        note = {DESCRIPTION: description} if description else {}
        self._start(None, name, params, {**tags, **note})

    def start_trial(
        self, trial: int, name: str, params: Mapping[str, object], tags: Mapping[str, str]
    ) -> None:
        """Open the run of a trial under the parent, or continue the one that is there."""
        self._start(trial, name, params, tags)

    def log_inputs(self, inputs: Sequence[Mapping[str, str]]) -> None:
        """Name the data that a study works on; what the parent run names already is left out.

        Args:
            inputs: "name", "digest" (at most 36 characters), "source_type", "source", "schema" and
                "profile" of each, as MLflow's `Dataset` has them, and its role, "context".
        """
        plain = [_texts(each) for each in inputs]
        self._put(Record(time_ms=_now_ms(), inputs=plain))

    def log_epoch(
        self, trial: int | None, step: int, metrics: Mapping[str, float], time_ms: int | None = None
    ) -> None:
        """Log metrics of one step; a step that the run has already is left out.

        Args:
            trial: its number, None for the parent.
            step: the epoch, from 1; of the parent: how many trials have ended.
            metrics: of the step.
            time_ms: when, since 1970; by default now. What is told again with the same time, value
                and step is one value for MLflow, whatever it had before an earlier process died.
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
            trial: its number.
            state: becomes MLflow's status FINISHED, FAILED or KILLED and a tag.
            metrics: logged at the run's last step, where they differ from that epoch's.
            error: why it failed; becomes a tag, in the place of an earlier attempt's.
            reason: why it has no more epochs, in words; a tag likewise.
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
        """Log an original or a reference: once under its key, however many studies use it.

        The study and it are linked by tags, both ways.
        """
        self._start(key, name, params, tags)
        self._finish(key, "complete", metrics, {})

    def set_tags(self, trial: int | None, tags: Mapping[str, str]) -> None:
        """Set tags of a trial's run, or of the parent's."""
        self._put(Record(run=trial, time_ms=_now_ms(), tags=_texts(tags)))

    def log_table(self, path: Path) -> None:
        """Copy a table to the parent's run so that the UI shows it as one.

        Args:
            path: a JSON file, {"columns": [...], "data": [[...]]}; must stay until `close`.
        """
        self.log_artifact(None, path)
        self.set_tags(None, {TABLES: json.dumps([{"path": path.name, "type": "table"}])})

    def log_model(self, trial: int, folder: Path, name: str, tags: Mapping[str, str]) -> None:
        """Log a trial's model and register it, once: again, it is the same version.

        Args:
            trial: its number.
            folder: a model as MLflow keeps it; must stay there until `close`.
            name: of the registered model.
            tags: of its version.
        """
        place = _text(folder.absolute())
        record = Record(run=trial, time_ms=_now_ms(), path=place, model=name, tags=_texts(tags))
        self._put(record)

    def log_artifact(self, trial: int | None, path: Path, folder: str = "") -> None:
        """Copy a file or a whole directory (under its name) to a trial's run, or to the parent's.

        Args:
            trial: its number, None for the parent.
            path: must stay there until `close`.
            folder: where in the run's artifacts.
        """
        place = _text(path.absolute())
        self._put(Record(run=trial, time_ms=_now_ms(), path=place, folder=folder))

    def call(self, action: Callable[[Mapping[int, str]], None]) -> None:
        """Run `action(run ids by trial)` in the thread, also when MLflow is failing.

        What was logged before has been sent by then, or was tried to.
        """
        self._background.put_action(lambda: action(self._buffer.run_ids()))

    def run_ids(self, timeout_s: float) -> dict[int, str]:
        """Return the run of each trial that MLflow knows, after delivering what waits.

        Args:
            timeout_s: how long to wait for that, in seconds; empty if it takes longer.
        """
        answer = queue.SimpleQueue[Mapping[int, str]]()
        self._background.put_action(lambda: answer.put(self._buffer.run_ids()), at_once=True)
        with contextlib.suppress(queue.Empty):
            return dict(answer.get(timeout=timeout_s))
        return {}

    def run_id(self, timeout_s: float) -> str | None:
        """Return the run of the study itself, after delivering what waits; `None` if unknown.

        Args:
            timeout_s: how long to wait for that, in seconds.
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
        """Deliver what waits, stop, and return the problems in one line each.

        Args:
            timeout_s: how long to wait, in seconds; after that a run that is being sent is
                finished, the others are left in the spool.

        Returns:
            Nothing if MLflow holds everything.
        """
        done = self._background.close(timeout_s)
        failure = self._background.failure
        reason = f": {one_line(failure)}" if failure else ""
        lacking = self._queue.problems()
        if not done:
            lacking.append(f"{self._name} did not take all within {timeout_s:g} s{reason}")
        elif failure or self._queue.missing:
            lacking.append(f"{self._name} lacks parts of {self._queue.missing} run(s){reason}")
        remedy = f"; once MLflow is back: mixunlearn sync {self._study}"
        lines = [*self._writer.refused, *map(one_line, self._background.problems)]
        lines += [line + remedy for line in lacking]
        return list(dict.fromkeys(redact(line) for line in lines))

    def _start(
        self, run: Run, name: str, params: Mapping[str, object], tags: Mapping[str, str]
    ) -> None:
        self._put(
            Record(
                run=run,
                time_ms=_now_ms(),
                status=RUNNING,
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


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {name: _text(value) for name, value in values.items()}


def _text(value: object) -> str:
    """Return `value` as text that any server takes: what has no UTF-8 becomes a question mark."""
    return str(value).encode(errors="replace").decode()


def _numbers(values: Mapping[str, object]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}


def _number(value: object) -> float | None:
    """Return `value` as a float: not a number, if it is none; None stays."""
    if isinstance(value, numbers.Real):
        with contextlib.suppress(OverflowError):
            return float(value)
    return None if value is None else math.nan


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
