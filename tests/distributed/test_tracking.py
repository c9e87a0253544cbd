import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Metric, Run
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from distributed.runtime.addresses import embedded, resolve
from distributed.runtime.text import one_line
from distributed.tracking.delivery_queue import to_line
from distributed.tracking.run_buffer import PARAM_LENGTH, TAG_LENGTH, Record, RunBuffer
from distributed.tracking.server import DEFAULTS, reachable, set_aside_if_damaged, set_defaults
from distributed.tracking.tags import DESCRIPTION
from distributed.tracking.tracker import SPOOL_BYTES, Tracker
from distributed.tracking.writer import SHARED
from mixunlearn.errors import MixUnlearnError
from tests import databases
from tests.quick_server import quick_server
from tests.warm import PARENT

ROOT = Path(__file__).parents[2]
# SQLAlchemy warns MLflow about its next release.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")
PATIENCE_S = 120.0
REMEDY = "; once MLflow answers again: mixunlearn sync night-1"


class Place(NamedTuple):
    """A store, and an experiment in it that no other test uses."""

    uri: str
    location: str | None
    experiment: str
    spool: Path

    def tracker(
        self,
        study: str = "night-1",
        say: Callable[[str], None] = print,
        spool_bytes: int = SPOOL_BYTES,
        recreate: bool = False,
    ) -> Tracker:
        return Tracker(
            uri=self.uri,
            artifact_location=self.location,
            experiment=self.experiment,
            study=study,
            spool=self.spool,
            say=say,
            spool_bytes=spool_bytes,
            recreate=recreate,
        )

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def runs(self, experiment: str | None = None) -> list[Run]:
        """Return the experiment's runs: parents first, then trials by number."""
        there = self.client.get_experiment_by_name(experiment or self.experiment)
        found = self.client.search_runs([there.experiment_id]) if there else []
        return sorted(found, key=lambda run: int(run.data.tags.get("mixunlearn.trial", -1)))

    def references(self) -> list[Run]:
        """Return the originals and references that the experiment's studies use."""
        own = {run.info.run_id for run in self.runs()}
        return [run for run in self.runs(SHARED) if own & set(run.data.tags.values())]

    def leave(self) -> None:
        """Leave the studies of a test to nobody: the next test names its studies alike."""
        every = [each.experiment_id for each in self.client.search_experiments()]
        for run in self.client.search_runs(every, "tags.`mixunlearn.study` LIKE 'night%'"):
            self.client.set_tag(run.info.run_id, "mixunlearn.study", "of an earlier test")

    def run(self, name: str) -> Run:
        (found,) = [run for run in self.runs() if run.info.run_name == name]
        return found

    def inputs(self, run: Run) -> dict[str, DatasetInput]:
        """Return the data sets that a run names."""
        assert run.inputs
        found = run.inputs.dataset_inputs
        assert len({each.dataset.name for each in found}) == len(found)
        return {each.dataset.name: each for each in found}

    def history(self, run: Run, metric: str) -> list[tuple[int, float]]:
        points = self.client.get_metric_history(run.info.run_id, metric)
        return [(point.step, point.value) for point in points]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: making one takes seconds, copying it does not."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def local(empty_database: Path, tmp_path: Path) -> Place:
    home = tmp_path / "a home"
    home.mkdir()
    shutil.copy(empty_database, home / "mlflow.db")
    return Place(*embedded(home), "class", tmp_path / "tracking.spool")


@pytest.fixture(scope="module")
def server(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, home / "mlflow.db")
    with quick_server(home, embedded(home)[0], None, None) as running:
        yield running.link


@pytest.fixture(params=["sqlite", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        found = request.getfixturevalue("local")
        assert isinstance(found, Place)
        yield found
    else:
        spool = tmp_path / "tracking.spool"
        found = Place(request.getfixturevalue("server"), None, request.node.name, spool)
        yield found
        found.leave()


@pytest.fixture
def dead_uri() -> Iterator[str]:
    """The address, with a password, of a port that is taken but on which no process listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://ann:hunter2@127.0.0.1:{taken.getsockname()[1]}"


class Gate:
    """Holds the tracker's thread at one point."""

    def __init__(self, tracker: Tracker) -> None:
        self._reached, self._open = threading.Event(), threading.Event()
        tracker.call(self._wait)
        assert self._reached.wait(PATIENCE_S)

    def _wait(self, _: Mapping[int, str]) -> None:
        self._reached.set()
        assert self._open.wait(PATIENCE_S)

    def open(self) -> None:
        self._open.set()


REASONS = ("", "stopped early by asha after epoch 3 of 6", "it broke")


def reference(tracker: Tracker, key: str, value: float) -> None:
    tags = {"mixunlearn.role": "reference", "mixunlearn.splits": "5b11"}
    tracker.log_reference(key, f"reference {key}", {"seed": 1}, {"acc/val": value}, tags)


def sweep(tracker: Tracker) -> list[str]:
    """Track a study of three trials, a reference and their ends; return the problems."""
    tracker.start_study(
        "study of class 0", {"search.trials": 3}, {"team": "privacy"}, "Why: a test"
    )
    reference(tracker, "c0ffee00", 97.5)
    for trial, state in enumerate(("complete", "pruned", "failed")):
        tracker.start_trial(trial, f"trial {trial}", {"lr": 1e-4, "pairing": "any"}, {"who": "tpe"})
        for step in (1, 2, 3):
            tracker.log_epoch(trial, step, {"gap/avg": 10.0 / step, "acc/val": 90.0 + step})
        error = "RuntimeError: it broke" if state == "failed" else None
        metrics = {"gap/avg": 10.0 / 3, "acc/test": 95.0}
        tracker.finish_trial(trial, state, metrics, error, REASONS[trial])
    tracker.finish_study("complete", {"gap/avg": 3.0})
    return tracker.close(PATIENCE_S)


def test_a_study_is_a_parent_with_children(place: Place) -> None:
    assert sweep(place.tracker()) == []
    parent = place.run("study of class 0")
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"search.trials": "3"}
    assert parent.data.metrics == {"gap/avg": 3.0}
    tags = parent.data.tags
    assert (tags["mixunlearn.study"], tags["mixunlearn.state"]) == ("night-1", "complete")
    assert (tags["mlflow.note.content"], tags["team"]) == ("Why: a test", "privacy")
    children = [run for run in place.runs() if run.info.run_id != parent.info.run_id]
    assert [run.info.run_name for run in children] == ["trial 0", "trial 1", "trial 2"]
    for number, run in enumerate(children):
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["mixunlearn.study"] == "night-1"
        assert run.data.tags["mixunlearn.trial"] == str(number)
        assert run.data.params == {"lr": "0.0001", "pairing": "any"}
        assert run.info.start_time <= run.info.end_time


def test_a_state_becomes_a_status(place: Place) -> None:
    sweep(place.tracker())
    seen = {
        run.data.tags["mixunlearn.state"]: (run.info.status, run.data.tags.get("mixunlearn.error"))
        for run in place.runs()
        if "mixunlearn.trial" in run.data.tags
    }
    assert seen == {
        "complete": ("FINISHED", None),
        "pruned": ("KILLED", None),
        "failed": ("FAILED", "RuntimeError: it broke"),
    }
    reasons = [run.data.tags.get("mixunlearn.reason") for run in place.runs()]
    assert reasons == [None, None, "stopped early by asha after epoch 3 of 6", "it broke"]


def test_metrics_arrive_by_step_and_the_final_ones_at_the_last_step(place: Place) -> None:
    sweep(place.tracker())
    run = place.run("trial 1")
    assert place.history(run, "acc/val") == [(1, 91.0), (2, 92.0), (3, 93.0)]
    assert place.history(run, "acc/test") == [(3, 95.0)]
    # What the last epoch has logged is not logged again.
    assert [step for step, _ in place.history(run, "gap/avg")] == [1, 2, 3]


def test_a_second_tracker_doubles_nothing(place: Place) -> None:
    assert sweep(place.tracker()) == []
    before = {run.info.run_id: run.data.to_dictionary() for run in place.runs()}
    (reference,) = place.references()
    assert sweep(place.tracker()) == []
    assert {run.info.run_id: run.data.to_dictionary() for run in place.runs()} == before
    (again,) = place.references()
    assert again.to_dictionary() == reference.to_dictionary()
    run = place.run("trial 0")
    assert place.history(run, "acc/val") == [(1, 91.0), (2, 92.0), (3, 93.0)]
    assert place.history(reference, "acc/val") == [(0, 97.5)]


def test_a_second_tracker_goes_on(place: Place) -> None:
    first = place.tracker()
    first.start_study("study", {"search.trials": 4}, {}, "")
    first.start_trial(0, "trial 0", {"lr": 0.1}, {})
    first.log_epoch(0, 1, {"loss": 1.0})
    reference(first, "aa", 1.0)
    assert first.close(PATIENCE_S) == []
    second = place.tracker()
    second.start_study("study", {"search.trials": 8, "new": "x"}, {}, "")
    second.start_trial(0, "trial 0", {"lr": 0.1}, {})
    second.log_epoch(0, 1, {"loss": 0.9})
    second.log_epoch(0, 2, {"loss": 0.5})
    reference(second, "bb", 2.0)
    assert second.close(PATIENCE_S) == []
    parent, trial = place.runs()
    assert parent.data.params == {"search.trials": "4", "new": "x"}
    assert place.history(trial, "loss") == [(1, 1.0), (2, 0.5)]
    ids = {run.data.tags["mixunlearn.key"]: run.info.run_id for run in place.references()}
    assert json.loads(parent.data.tags["mixunlearn.references"]) == ids
    assert sorted(ids) == ["aa", "bb"]


INPUT = {
    "name": "digits forget",
    "digest": "5b11",
    "source_type": "code",
    "source": '{"tags": {}}',
    "schema": "{}",
    "profile": '{"num_rows": 7}',
    "context": "forget",
}


def test_the_run_of_a_study_is_read_by_itself(place: Place, tmp_path: Path) -> None:
    table = tmp_path / "leaderboard.json"
    table.write_text('{"columns": ["rank"], "data": [[1]]}')
    for _ in range(2):  # logged twice, it is the same
        tracker = place.tracker()
        tracker.start_study("study", {}, {"a": "1"}, "It runs.")
        tracker.log_inputs([INPUT, {**INPUT, "name": "digits", "context": "source"}])
        for step in (1, 2, 3):
            tracker.log_epoch(None, step, {"so_far/best": 3.0 / step}, 1_700_000_000_000 + step)
        tracker.log_table(table)
        tracker.set_tags(None, {DESCRIPTION: "**It ended.**"})
        tracker.finish_study("complete", {"best/gap/avg": 1.0})
        assert tracker.close(PATIENCE_S) == []
    (run,) = place.runs()
    assert run.data.tags[DESCRIPTION] == "**It ended.**"
    assert place.history(run, "so_far/best") == [(1, 3.0), (2, 1.5), (3, 1.0)]
    assert place.history(run, "best/gap/avg") == [(3, 1.0)]
    named = place.inputs(run)
    assert named.keys() == {"digits", "digits forget"}
    dataset, (role,) = named["digits forget"].dataset, named["digits forget"].tags
    assert (dataset.digest, dataset.profile) == ("5b11", '{"num_rows": 7}')
    assert (role.key, role.value) == ("mlflow.data.context", "forget")
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "leaderboard.json", "type": "table"}
    ]
    copy = place.client.download_artifacts(run.info.run_id, "leaderboard.json", str(tmp_path))
    assert Path(copy).read_text() == table.read_text()
    experiments = [run.info.experiment_id]
    assert len(place.client.search_runs(experiments, "datasets.digest = '5b11'")) == 1


def test_run_ids_are_there_once_asked_for(place: Place, dead_uri: str) -> None:
    tracker = place.tracker()
    tracker.start_trial(3, "trial 3", {}, {})
    assert tracker.run_ids(PATIENCE_S) == {3: place.run("trial 3").info.run_id}
    gate = Gate(tracker)
    assert tracker.run_ids(0) == {}  # no time to wait
    gate.open()
    assert tracker.close(PATIENCE_S) == []
    away = place._replace(uri=dead_uri, spool=place.spool.with_name("other")).tracker()
    away.start_trial(3, "trial 3", {}, {})
    assert away.run_ids(PATIENCE_S) == {}
    away.close(PATIENCE_S)


def test_two_studies_share_an_experiment_and_its_references(local: Place) -> None:
    for study in ("night-1", "Ann's \u201cnight\u201d", "night-1"):
        assert sweep(local.tracker(study)) == []
    assert len(local.runs()) == 2 * 4
    (shared,) = local.runs(SHARED)
    assert shared.data.tags["mixunlearn.role"] == "reference"
    users = {}
    for run in local.runs():
        if "mixunlearn.trial" not in run.data.tags:
            linked = json.loads(run.data.tags["mixunlearn.references"])
            assert linked == {"c0ffee00": shared.info.run_id}
            users[run.data.tags["mixunlearn.study"]] = run.info.run_id
    used_by = {name: v for name, v in shared.data.tags.items() if "used_by" in name}
    assert used_by == {
        "mixunlearn.used_by.night-1": users["night-1"],
        "mixunlearn.used_by.Ann_s__night_": users["Ann's \u201cnight\u201d"],
    }


def test_a_reference_that_is_finished_gets_nothing_but_who_uses_it(place: Place) -> None:
    first = place.tracker("night-1")
    reference(first, f"old {place.experiment}", 1.0)
    assert first.close(PATIENCE_S) == []
    (before,) = place.references()
    client, run_id = place.client, before.info.run_id
    client.delete_tag(run_id, "mixunlearn.used_by.night-1")
    client.delete_tag(run_id, "mixunlearn.role")
    for study in ("night-1", "night-2", "night-2"):
        again = place.tracker(study)
        reference(again, f"old {place.experiment}", 2.0)
        assert again.close(PATIENCE_S) == []
    run = client.get_run(run_id)
    assert run.info.to_proto() == before.info.to_proto()
    assert (run.data.metrics, run.data.params) == ({"acc/val": 1.0}, {"seed": "1"})
    assert "mixunlearn.role" not in run.data.tags
    parents = {each.data.tags["mixunlearn.study"]: each.info.run_id for each in place.runs()}
    assert parents.keys() == {"night-1", "night-2"}
    for study, parent in parents.items():
        assert run.data.tags[f"mixunlearn.used_by.{study}"] == parent


def test_what_gathered_goes_in_few_calls(local: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.tracking.sqlalchemy_store import (  # noqa: PLC0415 (warns when imported)
        SqlAlchemyStore,
    )

    sizes: list[int] = []
    log_batch: Any = SqlAlchemyStore.log_batch

    def counted(store: Any, run_id: str, metrics: Any, params: Any, tags: Any) -> Any:
        sizes.append(len(metrics))
        return log_batch(store, run_id, metrics, params, tags)

    tracker = local.tracker()
    tracker.start_study("study", {}, {}, "")
    gate = Gate(tracker)
    for step in range(1, 121):
        for trial in (0, 1):
            tracker.log_epoch(trial, step, {f"m/{i}": float(step) for i in range(20)})
    monkeypatch.setattr(SqlAlchemyStore, "log_batch", counted)
    gate.open()
    assert tracker.close(PATIENCE_S) == []
    assert sum(sizes) == 2 * 120 * 20
    assert max(sizes) <= 1000
    assert len(sizes) == 2 * 3
    for number in (0, 1):
        history = local.history(local.run(f"trial-{number}"), "m/7")
        assert history == [(step, float(step)) for step in range(1, 121)]


def test_postgresql_is_as_good(postgres: str, tmp_path: Path) -> None:
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE mlflow"))
    uri = f"{postgres.rpartition('/')[0]}/mlflow"
    place = Place(uri, tmp_path.as_uri(), "class", tmp_path / "tracking.spool")
    for _ in range(2):
        tracker = place.tracker()
        tracker.start_trial(0, "trial", {"lr": 0.1}, {})
        tracker.log_epoch(0, 1, {"gap/avg": 2.0}, time_ms=1_700_000_000_000)
        tracker.finish_trial(0, "complete", {"gap/avg": 2.0}, None)
        assert tracker.close(PATIENCE_S) == []
    assert place.history(place.run("trial"), "gap/avg") == [(1, 2.0)]
    assert place.run("trial").info.status == "FINISHED"


def test_an_epoch_told_again_at_its_own_time_is_not_doubled(place: Place) -> None:
    """A driver died after MLflow stored the metrics and before it stored the mark of the step."""
    for _ in range(2):
        tracker = place.tracker()
        tracker.start_trial(0, "trial", {}, {})
        tracker.log_epoch(0, 1, {"gap/avg": 2.0}, time_ms=1_700_000_000_000)
        assert tracker.close(PATIENCE_S) == []
        place.client.delete_tag(place.run("trial").info.run_id, "mixunlearn.step")
    run = place.run("trial")
    assert place.history(run, "gap/avg") == [(1, 2.0)]


def test_a_step_is_logged_once(local: Place) -> None:
    tracker = local.tracker()
    tracker.log_epoch(3, 1, {"loss": 1.0})
    tracker.log_epoch(3, 2, {"loss": 0.5})
    tracker.log_epoch(3, 2, {"loss": 0.6, "late": 7.0})
    tracker.log_epoch(3, 3, {"loss": 0.25})
    tracker.finish_trial(3, "complete", {"loss": 0.125}, None)
    assert tracker.close(PATIENCE_S) == []
    run = local.run("trial-3")
    assert local.history(run, "loss") == [(1, 1.0), (2, 0.5), (3, 0.25), (3, 0.125)]
    assert local.history(run, "late") == [(2, 7.0)]
    assert run.data.metrics["loss"] == 0.125


def test_what_is_no_number_is_dropped_and_named(local: Place) -> None:
    tracker = local.tracker()
    odd: dict[str, Any] = {"nan": float("nan"), "inf": float("inf"), "text": "x", "gone": None}
    tracker.log_epoch(0, 1, {**odd, "loss": 1, "flag": True})
    tracker.log_epoch(0, 2, {**odd, "loss": 2})
    assert tracker.close(PATIENCE_S) == []
    run = local.run("trial-0")
    assert run.data.metrics == {"loss": 2.0, "flag": 1.0}
    assert run.data.tags["mixunlearn.dropped_metrics"] == "inf, nan, text"


def test_long_values_are_cut_and_parameters_logged_once(local: Place) -> None:
    tracker = local.tracker()
    tracker.start_study("n" * 600, {}, {"long": "t" * 10_000}, "d" * 10_000)
    tracker.start_trial(0, "trial 0", {"ids": "7," * 5000, "lr": 0.1}, {})
    tracker.start_trial(0, "trial 0", {"lr": 0.2, **{f"p{i}": i for i in range(250)}}, {})
    assert tracker.close(PATIENCE_S) == []
    parent, run = local.runs()
    assert len(run.data.params["ids"]) == PARAM_LENGTH
    assert run.data.params["ids"].endswith("…")
    assert (run.data.params["lr"], run.data.params["p249"]) == ("0.1", "249")
    assert run.data.tags["mixunlearn.cut_params"] == "ids"
    assert len(parent.data.tags["mlflow.note.content"]) == TAG_LENGTH
    assert len(parent.data.tags["long"]) == TAG_LENGTH


def test_artifacts_are_files_and_folders(place: Place, tmp_path: Path) -> None:
    (tmp_path / "plots" / "deep").mkdir(parents=True)
    (tmp_path / "plots" / "a.svg").write_text("<svg/>")
    (tmp_path / "plots" / "deep" / "b.svg").write_text("<svg></svg>")
    (tmp_path / "report.html").write_text("<p>fine</p>")
    tracker = place.tracker()
    tracker.start_study("study", {}, {}, "")
    tracker.log_artifact(None, tmp_path / "report.html")
    tracker.log_artifact(None, tmp_path / "plots")
    tracker.log_artifact(0, tmp_path / "report.html", "pages")
    tracker.log_artifact(0, tmp_path / "never.html")
    (problem,) = tracker.close(PATIENCE_S)
    assert "never.html" in problem
    client, parent = place.client, place.run("study").info.run_id
    assert {item.path for item in client.list_artifacts(parent)} == {"plots", "report.html"}
    copy = client.download_artifacts(parent, "plots/deep/b.svg", str(tmp_path))
    assert Path(copy).read_text() == "<svg></svg>"
    (page,) = client.list_artifacts(place.run("trial-0").info.run_id, "pages")
    assert page.path == "pages/report.html"


def test_a_model_is_registered_once(place: Place, tmp_path: Path) -> None:
    folder, tags = tmp_path / "saved", {"mixunlearn.trial_id": place.experiment}
    folder.mkdir()
    for name in ("MLmodel", "README.md"):
        (folder / name).write_text("flavors: {}\n")
    for _ in range(2):
        tracker = place.tracker()
        tracker.start_trial(3, "trial 3", {}, {})
        tracker.log_model(3, folder, "unlearned", tags)
        assert tracker.close(PATIENCE_S) == []
    run = place.run("trial 3")
    assert "mixunlearn.trial_id" not in run.data.tags  # these tags belong to the version
    wanted = f"name = 'unlearned' AND tags.`mixunlearn.trial_id` = '{place.experiment}'"
    (version,) = place.client.search_model_versions(wanted)
    assert version.run_id == run.info.run_id


def test_actions_see_the_runs_of_what_was_logged_before(place: Place) -> None:
    seen: list[dict[int, str]] = []
    tracker = place.tracker()
    tracker.start_study("study", {}, {}, "")
    tracker.start_trial(4, "trial 4", {}, {})
    tracker.call(lambda run_ids: seen.append(dict(run_ids)))
    assert tracker.close(PATIENCE_S) == []
    assert seen == [{4: place.run("trial 4").info.run_id}]


def test_of_waiting_actions_with_one_name_only_the_last_runs(local: Place) -> None:
    seen: list[str] = []
    tracker = local.tracker()
    gate = Gate(tracker)
    for number in range(3):
        tracker.call(lambda _, number=number: seen.append(f"table {number}"), "table")  # type: ignore[misc]
        tracker.call(lambda _, number=number: seen.append(f"nameless {number}"))  # type: ignore[misc]
    gate.open()
    assert tracker.close(PATIENCE_S) == []
    assert seen == ["nameless 0", "nameless 1", "table 2", "nameless 2"]


def test_a_failing_action_is_a_problem(local: Place) -> None:
    def fail(_: Mapping[int, str]) -> None:
        raise OSError(28, "No space left on device", "trials.parquet")

    tracker = local.tracker()
    tracker.call(fail)
    tracker.start_trial(0, "trial 0", {}, {})
    assert tracker.close(PATIENCE_S) == ["No space left on device: trials.parquet"]
    assert local.run("trial 0")


def test_an_unreachable_server_stops_nothing(dead_uri: str, tmp_path: Path) -> None:
    seen: list[dict[int, str]] = []
    tracker = Place(dead_uri, None, "class", tmp_path / "tracking.spool").tracker()
    tracker.start_study("study", {}, {}, "")
    gate = Gate(tracker)
    # None of these calls waits: the thread that sends is held.
    for trial in range(50):
        tracker.start_trial(trial, f"trial {trial}", {"lr": 0.1}, {})
        tracker.log_epoch(trial, 1, {"gap/avg": 1.0})
        tracker.finish_trial(trial, "complete", {}, None)
    tracker.call(lambda run_ids: seen.append(dict(run_ids)))
    gate.open()
    (problem,) = tracker.close(PATIENCE_S)
    assert seen == [{}]
    assert "lacks parts of 51 runs: Connection refused" in problem
    assert problem.endswith(REMEDY)
    assert "\n" not in problem
    assert "http://***@127.0.0.1" in problem
    assert "hunter2" not in problem


def test_a_failed_trial_may_be_run_again(place: Place) -> None:
    assert sweep(place.tracker()) == []
    again = place.tracker()
    again.start_trial(2, "trial 2", {"lr": 1e-4}, {})
    again.log_epoch(2, 1, {"gap/avg": 10.0})
    Gate(again).open()
    assert place.run("trial 2").info.status == "RUNNING"
    for step in (2, 3, 4):
        again.log_epoch(2, step, {"gap/avg": 10.0 / step})
    again.finish_trial(2, "complete", {"acc/test": 96.0}, None)
    assert again.close(PATIENCE_S) == []
    run = place.run("trial 2")
    assert run.info.status == "FINISHED"
    assert run.data.tags["mixunlearn.state"] == "complete"
    assert not run.data.tags.get("mixunlearn.error")
    assert place.history(run, "gap/avg") == [(step, 10.0 / step) for step in (1, 2, 3, 4)]
    assert run.data.metrics["acc/test"] == 96.0


def test_a_lost_answer_does_not_double_a_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    create_run = MlflowClient.create_run
    lost: list[str] = []

    def once_unanswered(client: MlflowClient, *args: Any, **kwargs: Any) -> Run:
        run = create_run(client, *args, **kwargs)
        if run.info.run_name == "trial 0" and not lost:
            lost.append(run.info.run_id)
            raise ConnectionError("the line broke")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", once_unanswered)
    tracker = place.tracker()
    tracker.start_study("study", {}, {}, "")
    tracker.start_trial(0, "trial 0", {"lr": 0.1}, {})
    tracker.log_epoch(0, 1, {"loss": 1.0})
    Gate(tracker).open()  # the first try is over
    assert tracker.close(PATIENCE_S) == []
    run = place.run("trial 0")
    assert [run.info.run_id] == lost
    assert (run.data.params, run.data.metrics) == ({"lr": "0.1"}, {"loss": 1.0})


def test_one_failing_run_does_not_keep_the_others(
    local: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_run = MlflowClient.create_run

    def not_this_one(client: MlflowClient, *args: Any, **kwargs: Any) -> Run:
        if kwargs["run_name"] == "trial 0":
            raise ConnectionError("no")
        return create_run(client, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_run", not_this_one)
    (problem,) = sweep(local.tracker())
    assert problem.endswith(f"lacks parts of 1 run: no{REMEDY}")
    assert local.run("trial 2").info.status == "FAILED"


def test_what_mlflow_refuses_is_told_and_the_rest_goes_on(
    local: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_batch = MlflowClient.log_batch

    def refused(client: MlflowClient, run_id: str, metrics: Any = (), *rest: Any) -> Any:
        names = ["?" if each.key == "odd" else each.key for each in metrics]
        changed = [
            Metric(n, m.value, m.timestamp, m.step) for n, m in zip(names, metrics, strict=True)
        ]
        return log_batch(client, run_id, changed, *rest)

    monkeypatch.setattr(MlflowClient, "log_batch", refused)
    tracker = local.tracker()
    tracker.start_trial(0, "trial 0", {}, {})
    tracker.log_epoch(0, 1, {"odd": 1.0})
    Gate(tracker).open()
    tracker.log_epoch(0, 2, {"loss": 1.0})
    tracker.finish_trial(0, "complete", {}, None)
    (problem,) = tracker.close(PATIENCE_S)
    assert problem.startswith("MLflow refused a part of the run trial 0: ")
    assert '"?"' in problem
    assert "\n" not in problem
    run = local.run("trial 0")
    assert (run.data.metrics, run.info.status) == ({"loss": 1.0}, "FINISHED")


def test_a_deleted_experiment_is_named(local: Place) -> None:
    client = local.client
    client.delete_experiment(client.create_experiment(local.experiment))
    tracker = local.tracker()
    tracker.start_study("study", {}, {}, "")
    (problem,) = tracker.close(PATIENCE_S)
    assert "'class' is deleted in MLflow: restore it (mlflow experiments restore -x 1)" in problem


def test_a_run_deleted_in_mlflow_stays_deleted_until_asked_for(local: Place) -> None:
    sweep(local.tracker())
    deleted = [local.run(name) for name in ("trial 1", "study of class 0")]
    for run in deleted:
        local.client.delete_run(run.info.run_id)
    said: list[str] = []
    assert sweep(local.tracker(say=said.append)) == []
    assert said == [
        "deleted in MLflow, and left so: study of class 0, trial 1; restore them there, or make "
        "them again with: mixunlearn sync night-1 --recreate"
    ]
    assert [run.info.run_name for run in local.runs()] == ["trial 0", "trial 2"]
    for _ in range(2):  # asked for twice, it is made once
        assert sweep(local.tracker(recreate=True)) == []
        parent, *children = local.runs()
        assert len(children) == 3
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
        assert local.run("trial 1").data.metrics["acc/val"] == 93.0
    # The new runs count from now on, and the restored ones no more.
    new = {run.info.run_id for run in local.runs()}
    for run in deleted:
        local.client.restore_run(run.info.run_id)
    assert sweep(local.tracker()) == []
    assert len(local.runs()) == 4 + 2
    assert {run.info.run_id for run in local.runs() if run.info.status == "KILLED"} <= new | {
        run.info.run_id for run in deleted
    }


def test_a_run_deleted_during_a_study_is_told_once(local: Place) -> None:
    said: list[str] = []
    tracker = local.tracker(say=said.append)
    tracker.start_study("study", {}, {}, "")
    tracker.start_trial(0, "trial 0", {}, {})
    local.client.delete_run(tracker.run_ids(PATIENCE_S)[0])
    for step in (1, 2):
        tracker.log_epoch(0, step, {"loss": 1.0})
        tracker.run_ids(PATIENCE_S)
    tracker.log_artifact(0, local.spool.parent)
    tracker.finish_trial(0, "complete", {}, None)
    assert tracker.close(PATIENCE_S) == []
    (line,) = said
    assert line.startswith("deleted in MLflow, and left so: trial 0; ")
    assert [run.info.run_name for run in local.runs()] == ["study"]


def remove_tags(place: Place) -> None:
    for run in [*place.runs(), *place.runs(SHARED)]:
        for name in run.data.tags:
            place.client.delete_tag(run.info.run_id, name)


def rename_experiments(place: Place) -> None:
    for each in place.client.search_experiments():
        place.client.rename_experiment(each.experiment_id, f"was {each.name}")


@pytest.mark.parametrize("change", [remove_tags, rename_experiments])
def test_runs_are_found_again_whatever_somebody_changed(
    local: Place, change: Callable[[Place], None]
) -> None:
    assert sweep(local.tracker()) == []
    client = local.client

    def everything() -> dict[str, Any]:
        every = [each.experiment_id for each in client.search_experiments()]
        return {run.info.run_id: run.data.to_dictionary() for run in client.search_runs(every)}

    before = everything()
    change(local)
    assert sweep(local.tracker()) == []
    after = everything()
    assert after.keys() == before.keys()
    for run_id, data in before.items():
        for name in ("study", "trial", "key"):
            tag = f"mixunlearn.{name}"
            assert after[run_id]["tags"].get(tag) == data["tags"].get(tag)
        assert after[run_id]["metrics"] == data["metrics"]


def test_ids_of_another_server_or_no_ids_change_nothing(local: Place) -> None:
    assert sweep(local.tracker()) == []
    ids = local.spool.with_suffix(".json")
    known = json.loads(ids.read_text())
    assert known.keys() == {"study", *(f"trial {n}" for n in range(3)), "reference c0ffee00"}
    foreign = dict.fromkeys(known, "f" * 32)
    swapped = {**known, "trial 0": known["trial 1"], "trial 1": known["study"]}
    for content in (json.dumps(foreign), json.dumps(swapped), '{"study": 1}', "[" * 9_999, ""):
        ids.write_text(content)
        assert sweep(local.tracker()) == []
        assert len(local.runs()) == 4
        assert json.loads(ids.read_text()) == known


def test_a_study_that_does_not_run_keeps_its_state(local: Place) -> None:
    tracker = local.tracker()
    tracker.start_study("study", {}, {}, "It ran.")
    tracker.finish_study("stopped", {})
    assert tracker.close(PATIENCE_S) == []
    again = local.tracker()
    again.start_study("study", {"new": 1}, {}, "", running=False)
    assert again.close(PATIENCE_S) == []
    run = local.run("study")
    assert (run.info.status, run.data.tags[DESCRIPTION]) == ("KILLED", "It ran.")
    assert run.data.params == {"new": "1"}


def test_a_database_removed_in_mid_study_is_told_and_sync_fills_the_gap(local: Place) -> None:
    path = Path(local.uri.removeprefix("sqlite:///"))
    tracker = local.tracker()
    tracker.start_study("study", {}, {}, "")
    for step in (1, 2):
        tracker.log_epoch(0, step, {"loss": float(step)}, step)
        tracker.run_ids(PATIENCE_S)
    path.unlink()
    tracker.log_epoch(0, 3, {"loss": 3.0}, 3)
    assert "the run trial-0 is gone from MLflow; `mixunlearn sync night-1` makes it again" in (
        tracker.close(PATIENCE_S)
    )
    # What an outage had left for a run whose beginning is lost.
    local.spool.write_bytes(to_line(Record(run=0, time_ms=3, step=3, metrics={"loss": 3.0})))
    assert local.tracker().close(PATIENCE_S) == []
    assert local.history(local.run("trial-0"), "loss") == [(3, 3.0)]
    for _ in range(2):
        again = local.tracker()
        for step in (1, 2, 3):
            again.log_epoch(0, step, {"loss": float(step)}, step)
        assert again.close(PATIENCE_S) == []
        run = local.run("trial-0")
        assert local.history(run, "loss") == [(step, float(step)) for step in (1, 2, 3)]
        assert run.data.tags["mixunlearn.step"] == "3"


def test_a_damaged_database_is_set_aside(local: Place) -> None:
    path = Path(local.uri.removeprefix("sqlite:///"))
    said: list[str] = []
    set_aside_if_damaged(local.uri, said.append)
    set_aside_if_damaged("http://127.0.0.1:1", said.append)
    assert said == []
    for damage in (path.read_bytes()[:100_000], b"no database" * 999):
        path.write_bytes(damage)
        set_aside_if_damaged(local.uri, said.append)
        assert not path.exists()
    assert "mlflow.db is damaged (" in said[0]
    assert "it is now mlflow.db.damaged2, and a new one is made" in said[1]
    assert path.with_name("mlflow.db.damaged").stat().st_size == 100_000


@pytest.mark.parametrize(
    "name", ["what?", "gap/acc(1)", "rank/lr=0.1", "a//b", "/a", "../a", "a/", "", "n" * 999, "é:+"]
)
def test_a_name_that_mlflow_refuses_is_changed_and_loses_nothing(local: Place, name: str) -> None:
    tracker = local.tracker()
    tracker.start_study("study", {name: 1}, {name: "x"}, "")
    tracker.log_epoch(None, 1, {name: 1.0, "loss": 2.0})
    tracker.log_epoch(None, 1, {name: 1.0, "loss": 2.0})
    assert tracker.close(PATIENCE_S) == []
    run = local.run("study")
    assert sorted(run.data.metrics.values()) == [1.0, 2.0]
    assert list(run.data.params.values()) == ["1"]


def test_links_are_not_uploaded(local: Place, tmp_path: Path) -> None:
    secret, plots = tmp_path / "secret", tmp_path / "plots"
    secret.write_text("of this machine")
    (plots / "deep").mkdir(parents=True)
    (plots / "deep" / "link").symlink_to(secret)
    (tmp_path / "report.html").symlink_to(secret)
    tracker = local.tracker()
    tracker.start_study("study", {}, {}, "")
    tracker.log_artifact(None, plots)
    tracker.log_artifact(None, tmp_path / "report.html")
    problems = tracker.close(PATIENCE_S)
    assert [problem.partition(" was not sent")[0] for problem in problems] == [
        f"{plots}/deep/link",
        f"{tmp_path}/report.html",
    ]
    assert local.client.list_artifacts(local.run("study").info.run_id) == []


def test_close_waits_no_longer_than_it_may(local: Place) -> None:
    tracker = local.tracker()
    gate = Gate(tracker)
    tracker.start_study("study", {}, {}, "")
    (problem,) = tracker.close(0)
    assert problem.endswith(f"did not get everything within 0 s{REMEDY}")
    gate.open()
    (problem,) = tracker.close(PATIENCE_S)
    assert problem.endswith(f"lacks parts of 1 run{REMEDY}")
    assert local.runs() == []  # no call waited any longer
    assert local.tracker().close(PATIENCE_S) == []
    assert local.run("study")  # but it was kept for the next process


ENDS_WITHOUT_CLOSE = """
import sys, threading
contacts = []
sys.addaudithook(lambda event, args: contacts.append((event, args[1:]))
                 if event in ("socket.connect", "socket.getaddrinfo") else None)
from pathlib import Path
from distributed.tracking.tracker import Tracker
uri, location, spool = sys.argv[1:]
started = threading.Event()
tracker = Tracker(uri=uri, artifact_location=location, experiment="class", study="night-1",
                  spool=Path(spool), say=print)
tracker.start_study("study", {}, {}, "")
tracker.call(lambda run_ids: started.set())
started.wait()
tracker.log_epoch(0, 1, {"loss": 1.0})
tracker.call(lambda run_ids: print(len(run_ids), contacts, flush=True))
"""


def test_a_new_database_is_made_and_a_program_that_just_ends_loses_nothing(tmp_path: Path) -> None:
    place = Place(*embedded(tmp_path / "new" / "home"), "class", tmp_path / "tracking.spool")
    # As a user runs it: MLflow sends no telemetry from tests and CI anyway.
    hidden = {"PYTEST_CURRENT_TEST", "PYTEST_VERSION", "CI", "GITHUB_ACTIONS", *DEFAULTS}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", ENDS_WITHOUT_CLOSE, place.uri, str(place.location), place.spool],
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1 []\n"  # one run, and no request to the network
    assert place.history(place.run("trial-0"), "loss") == [(1, 1.0)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "tracking.json"]


def test_a_database_whose_making_was_killed_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    code = "import sys; from pathlib import Path"
    code += "; from distributed.tracking.server import make_database"
    words = [*PARENT.quick, "-c", f"{code}; make_database(Path(sys.argv[1]), None)", str(path)]
    with subprocess.Popen(
        words, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    ) as process:
        while not any(each.stat().st_size for each in tmp_path.glob("*.tmp")):
            assert process.poll() is None
        process.kill()
        assert process.stdout
        process.stdout.read()  # until it has ended, also if it is a fork
    assert not path.exists()
    # MLflow's own, also in a fork that copies databases.
    databases.make_database(path, None)
    databases.make_database(path, None)  # another process may have been faster
    assert list(tmp_path.iterdir()) == [path]
    assert MlflowClient(f"sqlite:///{path}").search_experiments()


def test_defaults_leave_the_users_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    set_defaults()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"


def test_passwords_reach_neither_tags_nor_parameters(local: Place) -> None:
    tracker = local.tracker()
    secret = "http://ann:hunter2@host"
    tracker.start_study("study", {"tracking.uri": secret}, {"from": secret}, f"from {secret}")
    tracker.finish_trial(0, "failed", {}, f"no answer from {secret}")
    assert tracker.close(PATIENCE_S) == []
    for run in local.runs():
        assert "hunter2" not in json.dumps(run.data.to_dictionary())
        assert "http://***@host" in json.dumps(run.data.to_dictionary())


def test_an_explicit_address_wins_then_the_environment_then_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    own = embedded(tmp_path)
    assert own == (f"sqlite:///{tmp_path}/mlflow.db", f"file://{tmp_path}/mlartifacts")
    assert resolve(None, None, Path()) == own
    assert resolve("sqlite:///x.db", "files", tmp_path) == (
        f"sqlite:///{tmp_path}/x.db",
        f"file://{tmp_path}/files",
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert resolve(None, None, tmp_path) == ("http://host:5000", None)
    assert resolve(None, "s3://bucket/x", tmp_path) == ("http://host:5000", "s3://bucket/x")
    assert resolve("postgresql://db/x", None, tmp_path) == ("postgresql://db/x", own[1])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert resolve(None, None, tmp_path) == own


DIES = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN")
database.executemany("INSERT INTO experiments (name) VALUES (?)", ((str(n),) for n in range(9999)))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_database_whose_writer_was_killed_is_mended_and_answers(local: Place) -> None:
    path = local.uri.removeprefix("sqlite:///")
    subprocess.run([sys.executable, "-c", DIES, path], check=False)
    assert Path(f"{path}-journal").stat().st_size > 0  # what has to be rolled back first
    assert reachable(local.uri) is None
    tracker = local.tracker()
    tracker.start_study("study", {}, {}, "")
    assert tracker.close(PATIENCE_S) == []


def test_reachable_says_why_not_and_makes_nothing(
    local: Place, server: str, dead_uri: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder, no database")
    before = sorted(tmp_path.rglob("*"))
    assert reachable(local.uri) is None
    assert reachable(server) is None
    assert reachable(embedded(tmp_path / "later")[0]) is None
    assert reachable(dead_uri) == "Connection refused"
    assert reachable(f"sqlite:///{tmp_path}/file") == "file is not a database"
    assert "is a file" in str(reachable(f"sqlite:///{tmp_path}/file/mlflow.db"))
    assert "psycopg" in str(reachable("postgresql://ann:hunter2@127.0.0.1:1/mlflow"))
    assert sorted(tmp_path.rglob("*")) == before


def test_links_to_references_fit_into_a_tag() -> None:
    buffer = RunBuffer("night-1")
    for number in range(300):
        buffer.reference(f"{number:032x}").run_id = "f" * 32
    buffer.link_references()
    linked = json.loads(buffer.parent.tags["mixunlearn.references"])
    assert len(linked) > 50
    assert f"{299:032x}" in linked


def test_a_database_that_cannot_be_made_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    spool = tmp_path / "tracking.spool"
    tracker = Place(f"sqlite:///{tmp_path}/home/mlflow.db", None, "class", spool).tracker()
    tracker.start_study("study", {}, {}, "")
    (problem,) = tracker.close(PATIENCE_S)
    assert "home is a file" in problem
    assert tracker.close(0) == [problem]


@pytest.mark.parametrize("error", [MixUnlearnError("a\nb"), ValueError(), OSError(2, "No x", "f")])
def test_problems_have_one_line(error: Exception) -> None:
    assert len(one_line(error).splitlines()) == 1


def test_importing_the_module_does_not_import_mlflow() -> None:
    code = "import sys, distributed.tracking.tracker, distributed.serve.pages"
    code += "; print('mlflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_a_database_in_trouble_is_told_in_our_words_alone(
    local: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without this, MLflow prints a traceback for each retry, long before a user can act."""
    said: list[str] = []
    tracker = local.tracker(say=said.append)
    tracker.start_study("study", {}, {}, "")
    assert tracker.run_id(PATIENCE_S)
    with sqlite3.connect(local.uri.removeprefix("sqlite:///")) as database:
        database.execute("DROP TABLE metrics")
    tracker.log_epoch(None, 1, {"gap/avg": 1.0})
    problems = tracker.close(PATIENCE_S)
    assert "no such table: metrics" in " ".join([*said, *problems])
    assert "Traceback" not in capfd.readouterr().err
