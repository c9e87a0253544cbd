"""What a sweep tells MLflow, from a thread of its own.

One parent run a study, one child run a trial; originals and references are runs of an experiment
that all studies share. All are found again by their tags, so a sweep that continues doubles
nothing. What is on them, and how to search it: docs/tracking.md.
"""

import contextlib
import getpass
import importlib
import json
import logging
import math
import numbers
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from distributed.addresses import (
    REMOTE,
    ask_database,
    cut,
    embedded,
    one_line,
    redact,
    resolve,
    sqlite_path,
)
from distributed.background import Background
from distributed.outbox import (
    ERROR,
    FINISHED,
    KEY,
    NAME_LENGTH,
    REASON,
    RUNNING,
    STATE,
    STUDY,
    TRIAL,
    Draft,
    Held,
    Outbox,
    Point,
    Record,
    Run,
    Status,
    Upload,
)
from distributed.spool import MIB, Backlog, Spool
from mixunlearn.errors import InputError, MissingError, MixUnlearnError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

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

# Set before MLflow is imported, unless the user has. Without retries of MLflow's own because they
# repeat calls that may have worked (a doubled run); a delivery that failed is tried again anyway.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nobody is called who was not asked for
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # no lines about every migration of a new database
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output belongs to --json
}
STATUS: dict[str, Status] = {
    "complete": FINISHED,
    "failed": "FAILED",
    "pruned": "KILLED",
    "stopped": "KILLED",
}
# Answers that will be the same next time; everything else is tried again.
REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST"}
PATIENCE = 2  # failing runs in one delivery, before the rest waits for the next one
SPOOL_BYTES = 64 * MIB  # some hundred thousand epochs
POINTS = 800  # in one call: what MLflow takes next to a hundred parameters and tags
SHARED = "mixunlearn-references"  # experiment of originals and references
DESCRIPTION = "mlflow.note.content"  # tag that the UI shows as Markdown
TABLES = "mlflow.loggedArtifacts"  # tag that names the artifacts which the UI shows as tables


def reachable(uri: str) -> str | None:
    """Return None if the store at `uri` answers, or would be made by a sweep; else the reason.

    Creates nothing. May take as long as one request to a server that does not answer.
    """
    set_defaults()
    try:
        if _is_database(uri):
            ask_database(uri)
        else:
            _client(uri).search_experiments(max_results=1)
    except Exception as error:
        return one_line(error)
    return None


def require_runs(uri: str) -> None:
    """Check that there are runs to look at: MLflow would make a database, or try for minutes.

    Raises:
        MissingError: nothing has been tracked there yet.
        MixUnlearnError: it does not answer.
    """
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise MissingError(f"no study was tracked at {path}: run `mixunlearn sweep EXPERIMENT`")
    if reason := reachable(uri):
        raise MixUnlearnError(f"{redact(uri)} does not answer: {reason}")


def read_run(uri: str, run_id: str) -> Held:
    """Return what MLflow holds of a run.

    Raises:
        InputError: it has no such run.
        MixUnlearnError: it does not answer, or has no runs yet.
    """
    require_runs(uri)
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        return _held(_client(uri).get_run(run_id))
    except MlflowException as error:
        if error.error_code not in REFUSALS:
            raise MixUnlearnError(f"{redact(uri)} does not answer: {one_line(error)}") from error
        remedy = f"no such run at {redact(uri)}; `mixunlearn ui` shows them with their ids"
        raise InputError("RUN_ID", run_id, remedy) from error


def _is_database(uri: str) -> bool:
    return "://" in uri and not uri.startswith((*REMOTE, "file:"))


def set_defaults() -> None:
    """Set MLflow's environment variables that the user has not set, and its manners."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    # A traceback for each try, when the disk is full; we say it in a line, once.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def import_mlflow() -> None:
    """Import MLflow whole; where another thread is importing it, wait until it has.

    `from mlflow.models import Model` alone does not wait: it fails on what is not there yet.
    """
    importlib.import_module("mlflow")  # takes seconds: never at start-up


def make_database(path: Path, artifacts: str | None) -> None:
    """Make a SQLite database of MLflow's that is not there yet, whole or not at all.

    MLflow makes its tables by migrations, one after the other, and SQLite keeps what a killed one
    has done: such a database can never be opened again.

    Args:
        path: of the file; another process may make it at the same time.
        artifacts: where files of its default experiment would go; None: MLflow decides.

    Raises:
        Exception: what kept MLflow from making it.
    """
    import_mlflow()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        root = artifacts or str(path.parent)
        store = SqlAlchemyStore(f"sqlite:///{temporary}", root)  # type: ignore[no-untyped-call]
        store.engine.dispose()
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _client(uri: str) -> "MlflowClient":
    from mlflow import MlflowClient  # noqa: PLC0415 (takes seconds: never at start-up)

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


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
        self._outbox, self._spool = Outbox(study), Spool(spool)
        self._writer = _Writer(uri, artifact_location, experiment, study)
        self._backlog = Backlog(
            outbox=self._outbox,
            spool=self._spool,
            limit=spool_bytes,
            send=lambda: self._writer.deliver(self._outbox, self._background.hurried),
            say=say,
            name=self._name,
        )
        self._background = Background(self._backlog, name="mixunlearn-tracking")
        self._background.put(self._spool.open)
        self._background.start()

    def start_study(
        self, name: str, params: Mapping[str, object], tags: Mapping[str, str], description: str
    ) -> None:
        """Open the parent run, or go on with the one of an earlier sweep of the same study."""
        note = {DESCRIPTION: description} if description else {}
        self._start(None, name, params, {**tags, **note})

    def start_trial(
        self, trial: int, name: str, params: Mapping[str, object], tags: Mapping[str, str]
    ) -> None:
        """Open the run of a trial under the parent, or go on with the one that is there."""
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
                and step is one value for MLflow, whatever it had before an earlier driver died.
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
        """Log an original or a reference: once for ever under its key, whoever uses it.

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
        self._background.put_action(lambda: action(self._outbox.run_ids()))

    def run_ids(self, timeout_s: float) -> dict[int, str]:
        """Return the run of each trial that MLflow knows, after delivering what waits.

        Args:
            timeout_s: how long to wait for that, in seconds; empty if it takes longer.
        """
        answer = queue.SimpleQueue[Mapping[int, str]]()
        self._background.put_action(lambda: answer.put(self._outbox.run_ids()), at_once=True)
        with contextlib.suppress(queue.Empty):
            return dict(answer.get(timeout=timeout_s))
        return {}

    def run_id(self, timeout_s: float) -> str | None:
        """Return the run of the study itself, after delivering what waits; `None` if unknown.

        Args:
            timeout_s: how long to wait for that, in seconds.
        """
        answer = queue.SimpleQueue[str | None]()
        self._background.put_action(lambda: answer.put(self._outbox.parent.run_id), at_once=True)
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
        lacking = self._backlog.problems()
        if not done:
            lacking.append(f"{self._name} did not take all within {timeout_s:g} s{reason}")
        elif failure or self._backlog.missing:
            lacking.append(f"{self._name} lacks parts of {self._backlog.missing} run(s){reason}")
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
        self._background.put(partial(self._backlog.note, record))


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


class _Writer:
    """Brings drafts to MLflow. Lives in the background thread."""

    def __init__(
        self, uri: str, artifact_location: str | None, experiment: str, study: str
    ) -> None:
        self.refused: list[str] = []
        self._uri, self._artifact_location = uri, artifact_location
        self._experiment, self._study = experiment, study
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}  # name -> id
        self._known: dict[str | None, Held] = {}  # runs of the study; the parent is None

    def deliver(self, outbox: Outbox, hurried: threading.Event) -> Exception | None:
        """Send all that waits; stop between two runs once `hurried` is set.

        Returns:
            What kept parts of a run from being sent, while MLflow took others.

        Raises:
            Exception: MLflow is away: what it, its database or the network raised.
        """
        if next(outbox.waiting(), None) is None:
            return None
        failure: Exception | None = None
        try:
            client = self._connected()
            parent = self._open(client, outbox.parent, None)
            send, upload = partial(self._send, client, parent), partial(self._upload_all, client)
            failure = _for_each(outbox.waiting(), send, hurried)
            if failure:  # is it these runs, or MLflow?
                with self._refusals(outbox.parent):
                    client.set_tag(parent, STUDY, self._study)
            # Files last: they may go to another server, which may be away on its own.
            whole = (draft for draft in outbox.waiting() if not draft.failed)
            failure = _for_each(whole, upload, hurried) or failure
        except Exception as error:
            failure = error
            raise
        finally:
            if failure:
                self._client = None  # look up all anew: a call without answer may have worked
        return failure

    def _connected(self) -> "MlflowClient":
        """Return the client; a new one knows the experiment and all runs of the study."""
        if self._client is None:
            if _is_database(self._uri):
                ask_database(self._uri)  # MLflow would try for minutes, uninterruptedly
                path = sqlite_path(self._uri)
                if path is not None and not path.exists():
                    make_database(path, self._artifact_location)
            client = _client(self._uri)
            self._experiments.clear()
            found = _search(
                client, self._experiment_id(client, self._experiment), STUDY, self._study
            )
            self._known = {held.tags.get(TRIAL): held for held in found}
            self._client = client
        return self._client

    def _experiment_id(self, client: "MlflowClient", name: str) -> str:
        if name not in self._experiments:
            found = client.get_experiment_by_name(name)
            if found and found.lifecycle_stage != "active":
                raise MixUnlearnError(
                    f"the experiment {name!r} is deleted in MLflow: restore it "
                    f"(mlflow experiments restore -x {found.experiment_id}) or name another"
                )
            self._experiments[name] = (
                found.experiment_id
                if found
                else client.create_experiment(name, artifact_location=self._artifact_location)
            )
        return self._experiments[name]

    def _send(self, client: "MlflowClient", parent: str, draft: Draft) -> None:
        run_id = self._open(client, draft, parent)
        with self._refusals(draft):
            _log_batch(client, draft, run_id)
        draft.batch_sent()
        with self._refusals(draft):
            _set_status(client, draft, run_id)
        draft.held_status = draft.status or draft.held_status
        with self._refusals(draft):
            _log_inputs(client, draft, run_id)
        draft.inputs = []

    def _upload_all(self, client: "MlflowClient", draft: Draft) -> None:
        while draft.run_id and draft.uploads:
            with self._refusals(draft):
                self._upload(client, draft.run_id, draft, draft.uploads[0])
            del draft.uploads[0]

    @contextlib.contextmanager
    def _refusals(self, draft: Draft) -> Iterator[None]:
        """Note what MLflow refuses for good; let through what may work another time."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        try:
            yield
        except MlflowException as error:
            if error.error_code not in REFUSALS:
                raise
            self.refused.append(f"MLflow refused a part of the run {draft.name}: {one_line(error)}")

    def _upload(self, client: "MlflowClient", run_id: str, draft: Draft, upload: Upload) -> None:
        path = upload.path
        if not path.exists():
            self.refused.append(f"{path} was gone before it was copied to the run {draft.name}")
        elif upload.model:
            from distributed.registry import register  # noqa: PLC0415 (imports MLflow)

            register(client, run_id=run_id, name=upload.model, folder=path, tags=upload.tags)
        else:
            client.log_artifact(run_id, str(path), upload.folder or None)

    def _open(self, client: "MlflowClient", draft: Draft, parent: str | None) -> str:
        """Return the run of a draft: known, found again or new."""
        if draft.run_id is None:
            held = self._find(client, draft)
            return draft.attach(held or self._create(client, draft, parent))
        return draft.run_id

    def _find(self, client: "MlflowClient", draft: Draft) -> Held | None:
        if KEY in draft.identity:
            experiment = self._experiment_id(client, SHARED)
            return next(iter(_search(client, experiment, KEY, draft.identity[KEY])), None)
        return self._known.get(draft.identity.get(TRIAL))

    def _create(self, client: "MlflowClient", draft: Draft, parent: str | None) -> Held:
        experiment = SHARED if KEY in draft.identity else self._experiment
        tags = {**draft.identity, **_author()}
        if TRIAL in draft.identity and parent:
            tags["mlflow.parentRunId"] = parent
        run = client.create_run(
            self._experiment_id(client, experiment),
            start_time=draft.started_ms,
            tags=tags,
            run_name=cut(draft.name, NAME_LENGTH),
        )
        return _held(run)


def _for_each(
    drafts: Iterable[Draft], send: Callable[[Draft], None], hurried: threading.Event
) -> Exception | None:
    """Send every draft, until nobody waits or too many failed; return the first failure."""
    failures: list[Exception] = []
    for draft in drafts:
        try:
            send(draft)
            draft.failed = False
        except Exception as error:
            draft.failed = True
            failures.append(error)
        if len(failures) == PATIENCE or hurried.is_set():
            break
    return next(iter(failures), None)


def _log_batch(client: "MlflowClient", draft: Draft, run_id: str) -> None:
    """Send the waiting values in few calls: the tags last, they say up to which step all is there.

    MLflow cuts larger calls itself, but sends the tags with the first piece.
    """
    from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415

    points, params, tags = draft.batch()

    def metrics(some: list[Point]) -> list[Metric]:
        return [Metric(p.name, p.value, p.time_ms, draft.step_of(p)) for p in some]

    while len(points) > POINTS:
        client.log_batch(run_id, metrics(points[:POINTS]))
        points = points[POINTS:]
    if points or params or tags:
        client.log_batch(
            run_id,
            metrics(points),
            [Param(*pair) for pair in params.items()],
            [RunTag(*pair) for pair in tags.items()],
        )


def _set_status(client: "MlflowClient", draft: Draft, run_id: str) -> None:
    if draft.status in {None, draft.held_status}:
        return
    if draft.status == RUNNING:
        client.update_run(run_id, status=RUNNING)
    else:
        client.set_terminated(run_id, draft.status, draft.ended_ms)


def _log_inputs(client: "MlflowClient", draft: Draft, run_id: str) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415

    def named(given: Mapping[str, str]) -> DatasetInput:
        values = {name: redact(given[name]) for name in given if name != "context"}
        tag = InputTag("mlflow.data.context", given["context"])
        return DatasetInput(Dataset(**values), [tag])

    if draft.inputs:
        client.log_inputs(run_id, datasets=[named(given) for given in draft.inputs])


def _search(client: "MlflowClient", experiment: str, tag: str, value: str) -> list[Held]:
    """Return the runs with this tag, latest first."""
    mark = '"' if "'" in value else "'"
    found: list[Held] = []
    token: str | None = ""
    while token is not None:
        page = client.search_runs(
            [experiment], f"tags.`{tag}` = {mark}{value}{mark}", page_token=token or None
        )
        found += map(_held, page)
        token = page.token or None
    return found


def _held(run: "MlflowRun") -> Held:
    return Held(
        run_id=run.info.run_id,
        status=run.info.status,
        tags=run.data.tags,
        params=run.data.params,
        metrics=run.data.metrics,
    )


def _author() -> dict[str, str]:
    """Return the tag that says who ran it, where the machine knows."""
    with contextlib.suppress(OSError, KeyError, ImportError):
        return {"mlflow.user": getpass.getuser()}
    return {}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
