"""A note says that a study has nothing left to do, as long as all it depends on is as it was."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from distributed.config.experiment import Experiment
from distributed.config.read import glance
from distributed.study.finished import finished_study, note_finished
from distributed.study.folder import StudyFolder, study_folder

WRITTEN = """\
name: small
data: {source: digits}
model: {name: cnn}
task: {kind: class, classes: [0]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(WRITTEN)
    return path


def read(file: Path, *settings: str) -> Experiment:
    experiment = glance(file, settings)
    assert experiment is not None
    return experiment


@pytest.fixture
def home(file: Path, tmp_path: Path) -> Path:
    """A home with a finished study."""
    home = tmp_path / "home"
    folder = study_folder(home, "small-0123")
    for path in (folder.plots / "gap.png", home / "store" / "models" / "x", home / "mlflow.db"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("whole")
    folder.summary.write_text(json.dumps({"folder": str(folder.path)}))
    for path in (folder.experiment, folder.database, folder.trials, folder.report):
        path.write_text("whole")
    note_finished(folder, home, read(file), [home / "store" / "models", home / "mlflow.db"])
    return home


def test_a_finished_study_is_known_by_its_experiment(file: Path, home: Path) -> None:
    found = finished_study(read(file), home)
    folder = study_folder(home, "small-0123")
    assert found == (folder, {"folder": str(folder.path)})
    assert finished_study(read(file, "search.trials=99"), home) is None
    assert finished_study(read(file, "data.source=mnist5k"), home) is None


def test_a_copy_of_the_home_writes_its_results_anew(file: Path, home: Path) -> None:
    """They name the home that they were made in."""
    assert finished_study(read(file), Path(shutil.copytree(home, home.with_name("copy")))) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda home, folder: folder.database.write_text("other"),
        lambda home, folder: folder.report.unlink(),
        lambda home, folder: folder.spool.touch(),
        lambda home, folder: folder.purged.touch(),
        lambda home, folder: (folder.plots / "gap.png").unlink(),
        lambda home, folder: (home / "store" / "models" / "x").write_text("damaged"),
        lambda home, folder: (home / "mlflow.db").unlink(),
        lambda home, folder: folder.finished.write_text("[]"),
        lambda home, folder: folder.summary.write_text("{"),
    ],
)
def test_in_doubt_everything_is_looked_at(
    file: Path, home: Path, change: Callable[[Path, StudyFolder], object]
) -> None:
    change(home, study_folder(home, "small-0123"))
    assert finished_study(read(file), home) is None


def test_another_mlflow_is_another_question(
    file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert finished_study(read(file), home) is None


def test_what_cannot_be_read_is_left_to_the_command(file: Path, home: Path) -> None:
    assert glance(home / "none.yaml") is None
    assert glance(file, ["search.trials=-1"]) is None
    assert finished_study(read(file, "data.source=nothing"), home) is None
