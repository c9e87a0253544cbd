"""Brings what waits for each run to MLflow; lives in the background thread."""

import contextlib
import getpass
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from distributed.runtime.addresses import ask_database, sqlite_path
from distributed.runtime.text import cut, one_line, redact
from distributed.tracking import server
from distributed.tracking.outbox import (
    NAME_LENGTH,
    RUNNING,
    Draft,
    Held,
    Outbox,
    Point,
    Upload,
)
from distributed.tracking.server import (
    REFUSALS,
    is_database,
    make_client,
    remote_run,
)
from distributed.tracking.tags import CONTEXT, KEY, PARENT, STUDY, TRIAL, USER
from mixunlearn.errors import MixUnlearnError

if TYPE_CHECKING:
    from mlflow import MlflowClient


PATIENCE = 2  # failing runs in one delivery, before the rest waits for the next one
POINTS = 800  # in one call: what MLflow takes next to a hundred parameters and tags
SHARED = "mixunlearn-references"  # experiment of originals and references


class Writer:
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
            if is_database(self._uri):
                ask_database(self._uri)  # MLflow would try for minutes, uninterruptedly
                path = sqlite_path(self._uri)
                if path is not None and not path.exists():
                    server.make_database(path, self._artifact_location)
            client = make_client(self._uri)
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
            from distributed.tracking.registration import register  # noqa: PLC0415

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
            tags[PARENT] = parent
        run = client.create_run(
            self._experiment_id(client, experiment),
            start_time=draft.started_ms,
            tags=tags,
            run_name=cut(draft.name, NAME_LENGTH),
        )
        return remote_run(run)


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
        tag = InputTag(CONTEXT, given["context"])
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
        found += map(remote_run, page)
        token = page.token or None
    return found


def _author() -> dict[str, str]:
    """Return the tag that says who ran it, where the machine knows."""
    with contextlib.suppress(OSError, KeyError, ImportError):
        return {USER: getpass.getuser()}
    return {}
