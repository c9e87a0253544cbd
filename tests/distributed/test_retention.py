"""What remains of old nights in a real MLflow: numbers, and models with an alias."""

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from distributed.config.experiment import Experiment
from distributed.config.nightly import Nightly
from distributed.config.read import make_experiment
from distributed.nightly.nights import Nights
from distributed.nightly.records import Configuration, NightRecord, PartRecord
from distributed.nightly.retention import prune
from distributed.runtime.addresses import embedded
from distributed.tracking import server
from distributed.tracking.deletion import delete_old_versions
from distributed.tracking.tags import STUDY
from mixunlearn.store import Store

FIRST = date(2026, 11, 1)
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")  # MLflow's


class Registry:
    """An experiment in an MLflow of its own, with trials whose models are registered.

    Args:
        home: the home with the database.
    """

    def __init__(self, home: Path) -> None:
        home.mkdir(exist_ok=True)
        server.make_database(home / "mlflow.db", None)
        self.uri, artifacts = embedded(home)
        self.client = MlflowClient(self.uri, self.uri)
        self.experiment = self.client.create_experiment("tiny", artifacts)
        self.client.create_registered_model("tiny")

    def trial(self, study: str, folder: Path) -> tuple[str, str]:
        """Log a trial with a model; return its run and its version."""
        run = self.client.create_run(self.experiment, tags={STUDY: study}).info.run_id
        file = folder / "weights"
        file.write_bytes(b"weights")
        self.client.log_artifact(run, str(file))
        model = self.client.create_logged_model(self.experiment, name="tiny", source_run_id=run)
        self.client.log_model_artifacts(model.model_id, str(folder))
        version = self.client.create_model_version(
            "tiny", model.artifact_location, run, await_creation_for=0, model_id=model.model_id
        )
        return run, str(version.version)

    def runs(self) -> set[str]:
        """Return the ids of all runs, including deleted ones."""
        found = self.client.search_runs([self.experiment], "", ViewType.ALL)
        return {run.info.run_id for run in found}

    def versions(self) -> set[str]:
        """Return all versions of the registered model."""
        return {str(each.version) for each in self.client.search_model_versions("name = 'tiny'")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir()
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_runs_of_studies_left_behind_are_purged_but_for_those_with_an_alias(
    home: Path, folder: Path
) -> None:
    registry = Registry(home)
    old = [registry.trial("old", folder) for _ in range(3)]
    new = [registry.trial("new", folder)]
    registry.client.set_registered_model_alias("tiny", "champion", old[1][1])
    size = sum(path.stat().st_size for path in (home / "mlartifacts").rglob("weights"))
    assert size == 8 * len(b"weights")
    delete_old_versions(registry.uri, "tiny", ["old"], keep=2)
    # The newest two, and the champion.
    assert registry.versions() == {old[1][1], old[2][1], new[0][1]}
    # Purged: a search for deleted runs finds nothing either.
    assert registry.runs() == {old[1][0], new[0][0]}
    kept = {path.parts[-3] for path in (home / "mlartifacts").rglob("weights")}
    assert {old[0][0], old[2][0]}.isdisjoint(kept)
    assert len(list((home / "mlartifacts" / "models").rglob("weights"))) == 3
    delete_old_versions(registry.uri, "tiny", ["old"], keep=2)  # nothing is left to do
    assert registry.runs() == {old[1][0], new[0][0]}


def test_what_somebody_else_deleted_is_not_purged(home: Path, folder: Path) -> None:
    registry = Registry(home)
    mine, _ = registry.trial("somebody's", folder)
    registry.client.delete_run(mine)
    gone, _ = registry.trial("old", folder)
    delete_old_versions(registry.uri, "tiny", ["old"], keep=5)
    assert registry.runs() == {mine}
    assert gone not in registry.runs()


def test_where_mlflow_has_nothing_nothing_is_made(home: Path) -> None:
    uri, _ = embedded(home)
    delete_old_versions(uri, "tiny", ["old"], keep=1)
    assert not home.exists()


def night(nights: Nights, day: int, study: str, champion: str) -> None:
    reigning = Configuration(method="finetune", parameters={}, epochs=1, trial=f"{champion}/0")
    part = PartRecord(name="tiny", study=study, champion=reigning)
    when = FIRST + timedelta(days=day)
    nights.write(NightRecord(plan="plan", date=when, experiments=[part]))
    for name in ("night.html", "night.md"):
        (nights.of(when) / name).write_text("a page")


@pytest.fixture
def experiment() -> Experiment:
    return make_experiment(
        {
            "name": "tiny",
            "data": {"source": "digits"},
            "model": {"name": "cnn"},
            "task": {"kind": "class", "classes": [0]},
        }
    )


def test_old_nights_keep_their_numbers(home: Path, experiment: Experiment) -> None:
    nightly = Nightly(name="plan", experiments=["tiny.yaml"], keep=2)
    nights, store = Nights(home, "plan"), Store(home / "store")
    for day, (study, champion) in enumerate(
        [
            ("a", "a"),
            ("b", "b"),
            ("c", "b"),
            ("c", "b"),
        ]  # a is abandoned; b's champion is still in use
    ):
        night(nights, day, study, champion)
    for study in "abc":
        for part in ("checkpoints", "models", "model"):
            (home / "studies" / study / part).mkdir(parents=True)
        for name in ("trials.parquet", "report.html"):
            (home / "studies" / study / name).write_text("numbers, or a page")
        store.write("unlearned", {"study": study})
    assert prune(nights, nightly, [experiment], home) == []
    assert len(nights.dates()) == 4
    pages = sorted(path.parent.name for path in nights.folder.glob("*/night.html"))
    assert pages == ["2026-11-03", "2026-11-04"]
    left = {study: len(list((home / "studies" / study).iterdir())) for study in "abc"}
    assert left == {"a": 1, "b": 5, "c": 5}
    assert [store.has("unlearned", {"study": study}) for study in "abc"] == [False, True, True]


def test_a_study_that_another_plan_goes_on_with_stays(home: Path, experiment: Experiment) -> None:
    nightly = Nightly(name="plan", experiments=["tiny.yaml"], keep=1)
    nights = Nights(home, "plan")
    for day, study in enumerate("abc"):
        night(nights, day, study, study)
        (home / "studies" / study / "checkpoints").mkdir(parents=True)
    night(Nights(home, "weekly"), 0, "a", "a")
    assert prune(nights, nightly, [experiment], home) == []
    left = {path.parent.name for path in (home / "studies").glob("*/checkpoints")}
    assert left == {"a", "c"}


def test_a_damaged_database_does_not_fail_the_night(home: Path, experiment: Experiment) -> None:
    nightly = Nightly(name="plan", experiments=["tiny.yaml"], keep=1)
    nights = Nights(home, "plan")
    night(nights, 0, "a", "a")
    night(nights, 1, "b", "b")
    (home / "mlflow.db").write_text("no database")
    (home / "studies" / "a" / "checkpoints").mkdir(parents=True)
    (problem,) = prune(nights, nightly, [experiment], home)
    assert "mlflow.db" in problem
    assert "\n" not in problem
    assert not (home / "studies" / "a" / "checkpoints").exists()


def test_a_store_discards_what_is_unwanted_in_all_places(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for number in range(3):
        store.write("unlearned", {"study": "a", "number": number})
    store.write("models", {"study": "a", "number": 0})
    (tmp_path / "store" / "unlearned" / "damaged").mkdir()
    (tmp_path / "store" / "unlearned" / "damaged" / "record.json").write_text("{")
    store.discard("unlearned", lambda payload: payload["number"] < 2)
    left = sorted(
        json.loads(path.read_text())["payload"]["number"]
        for path in (tmp_path / "store" / "unlearned").glob("*/manifest.json")
        for path in [path.with_name("record.json")]
    )
    assert left == [2]
    assert store.has("models", {"study": "a", "number": 0})
