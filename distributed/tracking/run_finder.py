"""Which runs of MLflow belong to a study.

A run is found by its id, which the study's folder knows; else by its tags, in any experiment. A
run in MLflow's trash counts as well: somebody has deleted it, and it is not made again.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from distributed.tracking.run_buffer import RemoteRun
from distributed.tracking.server import REFUSALS, remote_run
from distributed.tracking.tags import KEY, STUDY, TRIAL
from mixunlearn.atomic import replacing

if TYPE_CHECKING:
    from mlflow import MlflowClient

_IDS = TypeAdapter(dict[str, str])


class RunIds:
    """A file with the ids of a study's runs: MLflow lets anybody change tags, but no id.

    Without the file, or with one of another MLflow server, runs are found by their tags.

    Args:
        path: path of the file; it is written when an id is new.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids = _read(path)
        self._changed = False

    def get(self, identity: Mapping[str, str]) -> str | None:
        """Return the id of the run with these tags; `None` if it is unknown."""
        return self._ids.get(_name(identity))

    def note(self, identity: Mapping[str, str], run_id: str) -> None:
        """Remember the id of the run with these tags."""
        if self._ids.get(_name(identity)) != run_id:
            self._ids[_name(identity)] = run_id
            self._changed = True

    def save(self) -> None:
        """Write the file, if an id is new."""
        # On a full disk the tags still find the runs.
        if self._changed:
            with contextlib.suppress(OSError), replacing(self._path) as temporary:
                temporary.write_text(json.dumps(self._ids, indent=1) + "\n")
                self._changed = False


def _read(path: Path) -> dict[str, str]:
    try:
        return _IDS.validate_json(path.read_bytes())
    except (OSError, ValueError):  # there is none yet, or it is damaged
        return {}


def _name(identity: Mapping[str, str]) -> str:
    if KEY in identity:
        return f"reference {identity[KEY]}"
    return f"trial {identity[TRIAL]}" if TRIAL in identity else "study"


class RunFinder:
    """Finds a study's runs in MLflow.

    Args:
        client: MLflow's client.
        study: name of the study; all runs with its tag are read at once.
        ids: the ids that the study's folder knows.
        recreate: whether runs in MLflow's trash are left out, so that they are made again.

    Raises:
        Exception: MLflow does not answer.
    """

    def __init__(self, client: "MlflowClient", study: str, ids: RunIds, *, recreate: bool) -> None:
        self._client, self._ids, self._recreate = client, ids, recreate
        self._experiments = all_experiments(client)
        self._tagged: dict[str | None, list[RemoteRun]] = {}  # by trial; the parent is None
        for remote in self._search(STUDY, study):
            self._tagged.setdefault(remote.tags.get(TRIAL), []).append(remote)

    def find(self, identity: Mapping[str, str]) -> RemoteRun | None:
        """Return the run with these tags, or with the id known for them; `None` without one.

        Of several runs, one that is not deleted is preferred, then the known id, then the oldest.
        """
        if KEY in identity:
            found = self._search(KEY, identity[KEY])
        else:
            found = self._tagged.get(identity.get(TRIAL), [])
        known = self._ids.get(identity)
        if known and all(remote.deleted for remote in found):
            by_id = self.by_id(known, identity)
            found = [by_id, *found] if by_id else found
        usable = [remote for remote in found if not (remote.deleted and self._recreate)]
        usable.reverse()  # a search has the latest first
        return min(usable, key=lambda run: (run.deleted, run.run_id != known), default=None)

    def by_id(self, run_id: str, identity: Mapping[str, str]) -> RemoteRun | None:
        """Return a run by its id; `None` if there is none, or if its tags name another one."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        try:
            found = remote_run(self._client.get_run(run_id))
        except MlflowException as error:
            if error.error_code not in REFUSALS:
                raise
            return None
        same = all(found.tags.get(name, value) == value for name, value in identity.items())
        return found if same else None

    def _search(self, tag: str, value: str) -> list[RemoteRun]:
        """Return the runs with this tag value, latest first, also those in MLflow's trash."""
        from mlflow.entities import ViewType  # noqa: PLC0415

        # MLflow's filters have no escape for quotation marks.
        mark = '"' if "'" in value else "'"
        wanted = f"tags.`{tag}` = {mark}{value}{mark}"
        found: list[RemoteRun] = []
        token: str | None = ""
        while token is not None:
            page = self._client.search_runs(
                self._experiments, wanted, run_view_type=ViewType.ALL, page_token=token or None
            )
            found += map(remote_run, page)
            token = page.token or None
        return found


def all_experiments(client: "MlflowClient") -> list[str]:
    """Return the ids of all experiments: one may have been renamed, or deleted."""
    from mlflow.entities import ViewType  # noqa: PLC0415

    found: list[str] = []
    token: str | None = ""
    while token is not None:
        page = client.search_experiments(view_type=ViewType.ALL, page_token=token or None)
        found += (each.experiment_id for each in page)
        token = page.token or None
    return found
