"""Homes that were copied, moved, mounted read-only, or named in an unusual way."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest
from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils

from distributed.runtime.addresses import embedded, sqlite_address, sqlite_path
from distributed.study.storage import open_record
from distributed.tracking import server
from distributed.tracking.deletion import delete_old_versions
from distributed.tracking.locations import settle
from distributed.tracking.tracker import Tracker
from tests.quick_server import quick_server

# SQLAlchemy warns MLflow about its next release.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")
PATIENCE_S = 120.0
HOSTILE = ("a%20b", "a%2Fb", "%41", "a?b", "[br]{ac}*", "a#b;c&d=e", "ü x'\"", "n" * 230)


def contents(home: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of everything in a home."""
    found = {str(path): path.stat() for path in home.rglob("*")}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


def track(home: Path, study: str = "s") -> list[str]:
    """Log a study with an artifact as a sweep would; return the problems."""
    folder = home / "studies" / study
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text("{}")
    uri, artifacts = embedded(home)
    tracker = Tracker(
        uri=uri,
        artifact_location=artifacts,
        experiment="class",
        study=study,
        spool=folder / "tracking.spool",
        say=print,
    )
    tracker.start_study(study, {}, {}, "")
    tracker.start_trial(0, "0000", {"lr": 1}, {})
    tracker.log_artifact(None, folder / "summary.json")
    tracker.log_artifact(0, folder / "summary.json", "sub")
    tracker.finish_trial(0, "complete", {"gap/avg": 1.0}, None)
    tracker.finish_study("complete", {})
    return tracker.close(PATIENCE_S)


def register(home: Path) -> str:
    """Register a model of the trial's run; return the run's id."""
    client = server.make_client(embedded(home)[0])
    experiment = client.get_experiment_by_name("class")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id], "tags.`mixunlearn.trial` = '0'")
    model = client.create_logged_model(
        experiment.experiment_id, name="tiny", source_run_id=run.info.run_id
    )
    (home / "weights").write_text("weights")
    client.log_model_artifacts(model.model_id, str(home / "weights"))
    client.create_registered_model("class")
    client.create_model_version("class", model.artifact_location, run.info.run_id)
    # A process remembers where the files of a run are: others are to open the home.
    utils._artifact_repos_cache.clear()
    return str(run.info.run_id)


def cells(path: Path) -> Iterator[str]:
    """Yield all texts in a database."""
    with closing(sqlite3.connect(path)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
            for row in database.execute(f'SELECT * FROM "{table}"'):
                yield from (cell for cell in row if isinstance(cell, str))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a tracked study and a registered model."""
    found = tmp_path / "first"
    assert track(found) == []
    register(found)
    return found


def forget_tag(path: Path) -> None:
    """Turn a database into one of an earlier version."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM experiment_tags")


@pytest.mark.parametrize("earlier", [False, True])
def test_a_copied_home_reads_and_writes_only_its_own_files(
    home: Path, tmp_path: Path, earlier: bool
) -> None:
    if earlier:
        forget_tag(home / "mlflow.db")
    second = tmp_path / "second"
    shutil.copytree(home, second)
    before, artifacts = contents(home), set((second / "mlartifacts").rglob("*"))
    assert track(second, "other") == []
    assert contents(home) == before
    assert len(set((second / "mlartifacts").rglob("summary.json")) - artifacts) == 2
    assert not [cell for cell in cells(second / "mlflow.db") if str(home) in cell]
    delete_old_versions(embedded(second)[0], "class", ["s"], keep=0)
    assert contents(home) == before
    assert not set((second / "mlartifacts").rglob("weights"))


def test_a_moved_home_does_not_make_the_old_one_again(home: Path, tmp_path: Path) -> None:
    second = home.rename(tmp_path / "second")
    client = server.make_client(embedded(second)[0])
    version = client.get_model_version("class", "1")
    assert client.get_model_version_download_uri("class", "1") == version.source
    assert str(version.source).startswith((second / "mlartifacts").as_uri())
    (experiment,) = client.search_experiments(filter_string="name = 'class'")
    for run in client.search_runs([experiment.experiment_id]):
        assert client.list_artifacts(run.info.run_id)
    assert track(second) == []
    assert not home.exists()


def test_artifacts_outside_of_the_home_stay_where_they_are(home: Path, tmp_path: Path) -> None:
    client = server.make_client(embedded(home)[0])
    places = [f"{embedded(home)[1]}-not", (tmp_path / "elsewhere" / "mlartifacts").as_uri()]
    for number, place in enumerate(places):
        client.create_experiment(str(number), artifact_location=place)
    second = home.rename(tmp_path / "second")
    client = server.make_client(embedded(second)[0])
    found = [client.get_experiment_by_name(str(number)) for number in range(len(places))]
    assert [each and each.artifact_location for each in found] == places


def test_a_database_that_was_not_moved_is_not_written(home: Path) -> None:
    before = contents(home)
    settle(home / "mlflow.db")
    assert contents(home) == before


def test_the_pages_of_a_read_only_home_that_was_moved(
    home: Path, tmp_path: Path, read_only: Callable[[Path], Path]
) -> None:
    moved = home.rename(tmp_path / "moved")
    with closing(sqlite3.connect(moved / "mlflow.db")) as database, database:
        (run_id,) = database.execute("SELECT run_uuid FROM runs WHERE name = '0000'").fetchone()
    before, view = contents(moved), read_only(moved)
    uri, artifacts = embedded(view)
    with quick_server(view, uri, artifacts, None) as running:
        link = f"{running.link}/get-artifact?path=sub/summary.json&run_uuid={run_id}"
        assert build_opener(ProxyHandler({})).open(link, timeout=PATIENCE_S).read() == b"{}"
    assert server.read_run(uri, run_id).metrics == {"gap/avg": 1.0}
    assert contents(moved) == before
    assert not home.exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_home_of_any_name_keeps_its_databases_inside(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    path = home / "study.db"
    assert sqlite_path(sqlite_address(path)) == path
    storage, _ = open_record(sqlite_address(path), "study")
    storage.remove_session()
    backend: Any = getattr(storage, "_backend", None)
    backend.engine.dispose()
    assert track(home) == []
    register(home)
    client = MlflowClient(embedded(home)[0])
    assert len(list((home / "mlartifacts").rglob("summary.json"))) == 2
    assert client.get_model_version("class", "1")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {"study.db", "mlflow.db", "mlartifacts"} <= {path.name for path in home.iterdir()}
