"""`sync`: MLflow is rebuilt from the study's record, whatever happened to it meanwhile."""

import base64
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from distributed.plan.make import find_study
from distributed.runtime.addresses import embedded
from distributed.search import session as command_session
from distributed.search.session import open_study
from distributed.study.folder import study_folder
from mixunlearn.errors import InputError
from tests.distributed.test_rerun import EPOCHS, fill, plan_in, record
from tests.fixtures import Command, Run

# SQLAlchemy warns MLflow about its next release.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a stopped study of three trials, of which MLflow has nothing yet."""
    home = tmp_path_factory.mktemp("sync")
    plan = plan_in(home).keep()
    fill(plan)
    with closing(open_study(plan, create=True)) as study:
        record(plan, study, EPOCHS, "complete")
        record(plan, study, 1, "pruned")
        record(plan, study, 1, "failed", "the worker died")
    return home


@pytest.fixture
def command(home: Path, mixunlearn: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr(command_session, "connected", lambda address: pytest.fail("Ray was needed"))
    (study,) = (home / "studies").iterdir()

    def run(verb: str, *words: str, target: str = "") -> Run:
        return mixunlearn(verb, f"{study.name}{target}", "--home", str(home), "--json", *words)

    return run


def runs(home: Path) -> dict[str, MlflowRun]:
    """Return the runs that are not deleted: of the study, its trials, its references, by name."""
    client = MlflowClient(embedded(home)[0])
    every = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(every)
    named = {str(run.info.run_name): run for run in found}
    assert len(named) == len(found)
    return named


def ids(home: Path) -> set[str]:
    return {run.info.run_id for run in runs(home).values()}


def steps(home: Path, run: MlflowRun) -> list[int]:
    history = MlflowClient(embedded(home)[0]).get_metric_history(run.info.run_id, "gap/avg")
    return [point.step for point in history]


def parent_of(home: Path) -> MlflowRun:
    return runs(home)[next((home / "studies").iterdir()).name]


class TestOneStudy:
    """In order: each test leaves MLflow complete."""

    def test_a_stopped_study_is_stopped(self, command: Command, home: Path) -> None:
        for _ in range(2):
            assert command("sync").code == 0
            parent = parent_of(home)
            assert (parent.info.status, parent.data.tags["mixunlearn.state"]) == (
                "KILLED",
                "stopped",
            )
        assert "There is no verdict yet" in parent_of(home).data.tags["mlflow.note.content"]
        assert len(runs(home)) == 1 + 3 + 6

    def test_what_somebody_changed_in_mlflow_doubles_nothing(
        self, command: Command, home: Path
    ) -> None:
        client, before = MlflowClient(embedded(home)[0]), runs(home)
        for each in client.search_experiments():
            client.rename_experiment(each.experiment_id, f"old {each.name}")
        assert command("sync").code == 0
        assert ids(home) == {run.info.run_id for run in before.values()}
        for run in before.values():
            for tag in run.data.tags:
                client.delete_tag(run.info.run_id, tag)
        assert command("sync").code == 0
        assert ids(home) == {run.info.run_id for run in before.values()}
        for name, run in runs(home).items():
            assert run.data.tags.get("mixunlearn.trial") == before[name].data.tags.get(
                "mixunlearn.trial"
            )
            assert run.data.metrics == before[name].data.metrics

    def test_what_somebody_deleted_stays_deleted(self, command: Command, home: Path) -> None:
        client, before = MlflowClient(embedded(home)[0]), runs(home)
        parent = parent_of(home)
        (first,) = (name for name in before if name.startswith("0000 "))
        for run in (parent, before[first]):
            client.delete_run(run.info.run_id)
        done = command("sync")
        assert (done.code, done.result["problems"]) == (0, [])
        assert f"deleted in MLflow, and left so: {parent.info.run_name}, {first}; " in done.err
        assert "--recreate" in done.err
        assert len(runs(home)) == len(before) - 2
        done = command("sync", "--recreate")
        assert "deleted in MLflow" not in done.err
        assert len(runs(home)) == len(before)
        again = parent_of(home)
        for name, child in runs(home).items():
            if name[:4].isdecimal():
                assert child.data.tags["mlflow.parentRunId"] == again.info.run_id
        assert steps(home, runs(home)[first]) == [*range(1, EPOCHS + 1)]

    @pytest.mark.parametrize("damage", ["removed", "cut", "emptied", "overwritten"])
    def test_a_lost_database_is_made_again(self, command: Command, home: Path, damage: str) -> None:
        before, database = runs(home), home / "mlflow.db"
        content = {
            "cut": database.read_bytes()[:100_000],
            "emptied": b"",
            "overwritten": b"no database" * 1000,
        }
        database.unlink()
        if damage in content:
            database.write_bytes(content[damage])
        done = command("sync")
        assert (done.code, done.result["problems"]) == (0, [])
        assert ("is damaged" in done.err) == (damage != "removed")
        after = runs(home)
        assert after.keys() == before.keys()
        for name, each in after.items():
            assert each.data.metrics == before[name].data.metrics
            assert steps(home, each) == [*range(1, len(steps(home, each)) + 1)]

    def test_a_line_of_the_spool_names_no_file(
        self, command: Command, home: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "secret.txt").write_text("of this machine")
        (tmp_path / "MLmodel").write_text("flavors: {}")
        study = next((home / "studies").iterdir())
        lines = [
            f'{{"time_ms":1,"path":"{tmp_path}/secret.txt"}}',
            f'{{"time_ms":1,"run":0,"path":"{tmp_path}","model":"small",'
            '"tags":{"mixunlearn.trial_id":"0badcafe"}}',
        ]
        study_folder(home, study.name).spool.write_text("\n".join(lines) + "\n")
        done = command("sync")
        assert done.code == 1
        assert "2 line(s) of " in done.result["problems"][0]
        client = MlflowClient(embedded(home)[0], registry_uri=embedded(home)[0])
        for each in runs(home).values():
            assert client.list_artifacts(each.info.run_id) == []
        assert list(client.search_registered_models()) == []
        assert command("sync").code == 0


class Visit(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.heard.append(self.headers.get("Authorization"))  # type: ignore[attr-defined]
        self.send_error(401)

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def guarded() -> Iterator[ThreadingHTTPServer]:
    """A server that refuses everybody, and remembers who they said they were."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Visit) as server:
        server.heard = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_password_in_the_address_is_needed_only_by_mlflow(
    command: Command,
    home: Path,
    guarded: ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    file = study_folder(home, next((home / "studies").iterdir()).name).experiment
    saved = file.read_text()
    content = yaml.safe_load(saved)
    content["tracking"]["uri"] = f"http://***@127.0.0.1:{guarded.server_port}"
    file.write_text(yaml.safe_dump(content))
    try:
        assert command("report", "--output", str(tmp_path / "report.html")).code == 0
        assert command("export", "--output", str(tmp_path / "trials.csv")).code == 0
        assert command("rerun", target="/1").code == 0
        assert guarded.heard == []  # type: ignore[attr-defined]
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
        done = command("sync")
        assert done.code == 1
        assert "hunter2" not in done.err
        assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in done.err
        known = f"Basic {base64.b64encode(b'ann:hunter2').decode()}"
        assert set(guarded.heard) == {known}  # type: ignore[attr-defined]
        content["tracking"]["uri"] = "http://127.0.0.1:1/?api_key=***"
        file.write_text(yaml.safe_dump(content))
        done = command("sync")
        assert done.code == 2
        assert "give the whole address with --set tracking.uri=..." in done.err
    finally:
        file.write_text(saved)
    # What waited for that server is sent to the usual place.
    assert command("sync").result["problems"] == []


def test_a_bad_address_of_mlflow_stops_only_who_needs_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "gopher://host")
    study = next((home / "studies").iterdir()).name
    assert find_study(study, [], home).study == study
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI = 'gopher://host'"):
        find_study(study, [], home, tracks=True)
