"""Sends pending runs to MLflow, in the background thread."""

import contextlib
import getpass
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from distributed.runtime.addresses import ask_database, sqlite_path
from distributed.runtime.text import cut, one_line, redact
from distributed.tracking import server
from distributed.tracking.names import NAME_LENGTH, importance
from distributed.tracking.run_buffer import (
    RUNNING,
    PendingRun,
    Point,
    RemoteRun,
    RunBuffer,
    Upload,
)
from distributed.tracking.run_finder import RunFinder, RunIds
from distributed.tracking.saved_view import VIEW
from distributed.tracking.server import (
    DELETED,
    REFUSALS,
    is_database,
    make_client,
    remote_run,
)
from distributed.tracking.tags import CONTEXT, KEY, PARENT, STUDY, TRIAL, USER
from mixunlearn.errors import MixUnlearnError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment


PATIENCE = 2  # after so many failed runs, a delivery leaves the rest for the next one
POINTS = 800  # metric values in one call; MLflow accepts 1000 with parameters and tags
SHARED = "mixunlearn-references"  # MLflow experiment of originals and references


class Writer:
    """Sends pending runs to MLflow. Used only in the background thread.

    A run is found by its id, if the study's folder knows it, else by its tags, in any experiment.
    A run that somebody has deleted in MLflow stays deleted, and gets nothing any more.

    Args:
        uri: the tracking address.
        artifact_location: where a new experiment keeps its files; None: the server decides.
        experiment: name of the MLflow experiment, if the study has no runs yet.
        study: name of the study.
        ids: the ids of the study's runs.
        recreate: whether runs that were deleted in MLflow are made again.
        view: a tag of the experiment that says how its page shows the study; empty: none.
    """

    def __init__(
        self,
        *,
        uri: str,
        artifact_location: str | None,
        experiment: str,
        study: str,
        ids: RunIds,
        recreate: bool,
        view: str,
    ) -> None:
        self.refused: list[str] = []
        self._uri, self._artifact_location = uri, artifact_location
        self._experiment, self._study = experiment, study
        self._ids, self._recreate, self._view = ids, recreate, view
        self._client: MlflowClient | None = None
        self._finder: RunFinder | None = None
        self._experiments: dict[str, str] = {}  # name -> id

    def deliver(self, buffer: RunBuffer, hurried: threading.Event) -> Exception | None:
        """Send everything that waits; stop between two runs once `hurried` is set.

        Returns:
            The first error if parts of some runs could not be sent although MLflow answers.

        Raises:
            Exception: MLflow does not answer: the error of MLflow, its database or the network.
        """
        if next(buffer.waiting(), None) is None:
            return None
        failure: Exception | None = None
        try:
            client = self._connected()
            # The parent first: its children need its id as a tag when they are created.
            parent = self._open(client, buffer.parent, None)
            send, upload = partial(self._send, client, parent), partial(self._upload_all, client)
            failure = _for_each(buffer.waiting(), send, hurried)
            if failure:  # a trivial call raises if the cause is MLflow and not these runs
                client.search_experiments(max_results=1)
            # Files last: they may go to another server, which may not answer while MLflow does.
            whole = (pending for pending in buffer.waiting() if not pending.failed)
            failure = _for_each(whole, upload, hurried) or failure
        except Exception as error:
            failure = error
            if getattr(error, "error_code", None) in server.UNKNOWN_USER:
                raise MixUnlearnError(server.reason_of(error)) from error
            raise
        finally:
            self._ids.save()
            if failure:
                # Look everything up again: a call without an answer may have worked.
                self._client = None
        return failure

    def has_model(self, name: str, trial_id: str) -> bool:
        """Return whether a trial's model is registered.

        Raises:
            Exception: MLflow does not answer.
        """
        from distributed.tracking.registration import version_of  # noqa: PLC0415

        return version_of(self._connected(), name, trial_id) is not None

    def _connected(self) -> "MlflowClient":
        """Return the client; a new one knows the experiments and all runs of the study."""
        if self._client is None or server.file_replaced(self._uri):
            self._client = None
            if is_database(self._uri):
                ask_database(self._uri)  # MLflow itself would retry for minutes
                path = sqlite_path(self._uri)
                if path is not None and not path.exists():
                    server.make_database(path, self._artifact_location)
            client = make_client(self._uri)
            self._finder = RunFinder(client, self._study, self._ids, recreate=self._recreate)
            self._experiments.clear()
            # The experiment of the study's run counts, not the name: it may have been renamed.
            parent = self._finder.find({STUDY: self._study})
            there = client.get_experiment(parent.experiment_id) if parent else None
            self._show(client, self._experiment_id(client, self._experiment, there))
            self._client = client
        return self._client

    def _show(self, client: "MlflowClient", experiment_id: str) -> None:
        """Save the view of the study in its experiment, unless it is there."""
        name = f"{VIEW}{self._study}"
        if self._view and client.get_experiment(experiment_id).tags.get(name) != self._view:
            client.set_experiment_tag(experiment_id, name, self._view)

    def _experiment_id(
        self, client: "MlflowClient", name: str, there: "Experiment | None" = None
    ) -> str:
        """Return the id of an experiment; it is created if it is missing.

        Args:
            client: MLflow's client.
            name: name of the experiment.
            there: the experiment itself, if it is known that it has another name now.
        """
        if name not in self._experiments:
            found = there or client.get_experiment_by_name(name)
            # MLflow would neither create another one of this name nor add runs to this one.
            if found and found.lifecycle_stage == DELETED:
                raise MixUnlearnError(
                    f"the experiment {found.name!r} is deleted in MLflow: restore it "
                    f"(mlflow experiments restore -x {found.experiment_id}) or name another"
                )
            self._experiments[name] = (
                found.experiment_id
                if found
                else client.create_experiment(name, artifact_location=self._artifact_location)
            )
        return self._experiments[name]

    def _send(self, client: "MlflowClient", parent: str, pending: PendingRun) -> None:
        run_id = self._open(client, pending, parent)
        pending.link(parent)
        if pending.deleted:
            return
        with self._refusals(pending):
            _log_batch(client, pending, run_id)
        pending.batch_sent()
        # After the metrics: a run that shows as ended is complete.
        with self._refusals(pending):
            _set_status(client, pending, run_id)
        pending.remote_status = pending.status or pending.remote_status
        with self._refusals(pending):
            _log_inputs(client, pending, run_id)
        pending.inputs = []

    def _upload_all(self, client: "MlflowClient", pending: PendingRun) -> None:
        while pending.run_id and pending.uploads and not pending.deleted:
            with self._refusals(pending):
                self._upload(client, pending.run_id, pending, pending.uploads[0])
            # One by one: after a failure, what has arrived is not sent again.
            del pending.uploads[0]

    @contextlib.contextmanager
    def _refusals(self, pending: PendingRun) -> Iterator[None]:
        """Record what MLflow refuses permanently; raise errors that a retry may solve."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        try:
            yield
        except MlflowException as error:
            if error.error_code not in REFUSALS:
                raise
            self._note_refusal(pending, one_line(error))

    def _note_refusal(self, pending: PendingRun, reason: str) -> None:
        """Find out whether the run is refused because somebody deleted it, or for `reason`."""
        assert self._finder
        found = self._finder.by_id(pending.run_id, pending.identity) if pending.run_id else None
        pending.deleted = bool(found and found.deleted)
        if pending.run_id and found is None:
            remedy = f"`mixunlearn sync {self._study}` makes it again"
            self.refused.append(f"the run {pending.name} is gone from MLflow; {remedy}")
        elif not pending.deleted:
            self.refused.append(f"MLflow refused a part of the run {pending.name}: {reason}")

    def _upload(
        self, client: "MlflowClient", run_id: str, pending: PendingRun, upload: Upload
    ) -> None:
        path = upload.path
        if not path.exists():
            self.refused.append(f"{path} was deleted before it was sent to the run {pending.name}")
        elif link := _link_in(path):
            reason = "it is a link, which may lead to any file of this machine"
            self.refused.append(f"{link} was not sent to the run {pending.name}: {reason}")
        elif upload.model:
            from distributed.tracking.registration import register  # noqa: PLC0415

            register(client, run_id=run_id, name=upload.model, folder=path, tags=upload.tags)
        else:
            client.log_artifact(run_id, str(path), upload.folder or None)

    def _open(self, client: "MlflowClient", pending: PendingRun, parent: str | None) -> str:
        """Return the id of a pending run in MLflow; finds the run or creates it if needed."""
        if pending.run_id is None:
            assert self._finder
            remote = self._finder.find(pending.identity)
            pending.attach(remote or self._create(client, pending, parent))
        assert pending.run_id
        self._ids.note(pending.identity, pending.run_id)
        return pending.run_id

    def _create(self, client: "MlflowClient", pending: PendingRun, parent: str | None) -> RemoteRun:
        experiment = SHARED if KEY in pending.identity else self._experiment
        # In the same call: if its answer is lost, the run is found again by these tags.
        tags = {**pending.identity, **_author()}
        if TRIAL in pending.identity and parent:
            tags[PARENT] = parent
        run = client.create_run(
            self._experiment_id(client, experiment),
            start_time=pending.started_ms,
            tags=tags,
            run_name=cut(pending.name, NAME_LENGTH),
        )
        return remote_run(run)


def _for_each(
    runs: Iterable[PendingRun], send: Callable[[PendingRun], None], hurried: threading.Event
) -> Exception | None:
    """Send runs until all are sent, too many fail, or `hurried` is set; return the first error."""
    failures: list[Exception] = []
    for pending in runs:
        try:
            send(pending)
            pending.failed = False
        except Exception as error:
            pending.failed = True
            failures.append(error)
        # With a server that hangs, each run would wait for the time limit of a request.
        if len(failures) == PATIENCE or hurried.is_set():
            break
    return next(iter(failures), None)


def _log_batch(client: "MlflowClient", pending: PendingRun, run_id: str) -> None:
    """Send the waiting values in few calls.

    The tags go last, because one of them tells up to which step all metrics are sent. MLflow would
    split a large call itself, but send the tags with the first piece.
    """
    from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415

    points, params, tags = pending.batch()
    points.sort(key=lambda point: importance(point.name))  # values of one metric stay in order

    def metrics(some: list[Point]) -> list[Metric]:
        return [Metric(p.name, p.value, p.time_ms, pending.step_of(p)) for p in some]

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


def _set_status(client: "MlflowClient", pending: PendingRun, run_id: str) -> None:
    if pending.status in {None, pending.remote_status}:
        return
    if pending.status == RUNNING:
        # `set_terminated` would give it an end time as well.
        client.update_run(run_id, status=RUNNING)
    else:
        client.set_terminated(run_id, pending.status, pending.ended_ms)


def _log_inputs(client: "MlflowClient", pending: PendingRun, run_id: str) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415

    def named(given: Mapping[str, str]) -> DatasetInput:
        values = {name: redact(given[name]) for name in given if name != "context"}
        tag = InputTag(CONTEXT, given["context"])
        return DatasetInput(Dataset(**values), [tag])

    if pending.inputs:
        client.log_inputs(run_id, datasets=[named(given) for given in pending.inputs])


def _link_in(path: Path) -> Path | None:
    """Return a link among a file or folder to upload, if there is one."""
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    return next((each for each in (path, *inside) if each.is_symlink()), None)


def _author() -> dict[str, str]:
    """Return the tag with the user's name, if the machine knows it."""
    with contextlib.suppress(OSError, KeyError, ImportError):
        # In a container, the user may have a number but no name.
        return {USER: getpass.getuser()}
    return {}
