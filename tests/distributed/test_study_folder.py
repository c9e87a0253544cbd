"""The names of a study's files: homes of earlier versions have them, so they must stay."""

from pathlib import Path

import pytest

from distributed.study.folder import StudyFolder, begun_studies, study_folder
from distributed.study.lock import StudyLock
from mixunlearn.errors import MixUnlearnError

FOLDER = StudyFolder(path=Path("home/studies/mnist-0011aabb"))
NAMES = {
    "experiment.yaml": FOLDER.experiment,
    "environment.json": FOLDER.environment,
    "stages.json": FOLDER.stages,
    "original.json": FOLDER.original,
    "study.db": FOLDER.database,
    "study.journal": FOLDER.journal,
    "tracking.spool": FOLDER.spool,
    "tracking.json": FOLDER.run_ids,
    "driver.lock": FOLDER.lock,
    "trials.parquet": FOLDER.trials,
    "summary.json": FOLDER.summary,
    "finished.json": FOLDER.finished,
    "leaderboard.json": FOLDER.leaderboard,
    "report.html": FOLDER.report,
    "plots": FOLDER.plots,
    "errors": FOLDER.errors,
    "errors/0007/error.txt": FOLDER.error(7),
    "model/trial-7": FOLDER.model(7),
}


@pytest.mark.parametrize(("name", "path"), NAMES.items(), ids=NAMES)
def test_names_stay_as_they_are(name: str, path: Path) -> None:
    assert path == FOLDER.path / name


def test_a_study_is_found_by_its_name() -> None:
    assert study_folder(Path("home"), "mnist-0011aabb") == FOLDER


def test_results_are_shared_in_this_order_and_neither_record_nor_lock_is() -> None:
    names = [path.name for path in FOLDER.results]
    artifacts = ["plots", "summary.json", "experiment.yaml", "environment.json", "report.html"]
    assert names == [*artifacts, "trials.parquet", "leaderboard.json", "errors"]
    assert [path.name for path in FOLDER.artifacts] == artifacts


def test_the_lock_of_a_study_lies_in_its_folder(tmp_path: Path) -> None:
    folder = StudyFolder(path=tmp_path)
    assert not folder.lock.exists()
    with StudyLock("study", tmp_path, None, lambda _: None, lambda: None):
        assert folder.lock.is_file()


def test_a_study_without_its_experiment_was_not_begun(tmp_path: Path) -> None:
    assert begun_studies(tmp_path) == []
    for study in ("mnist-2", "mnist-1", "digits-1"):
        folder = study_folder(tmp_path, study)
        folder.path.mkdir(parents=True)
        folder.experiment.write_text("")
    study_folder(tmp_path, "mnist-3").path.mkdir()
    mnist = ["mnist-1", "mnist-2"]
    assert [each.path.name for each in begun_studies(tmp_path)] == ["digits-1", *mnist]
    assert [each.path.name for each in begun_studies(tmp_path, "mnist-*")] == mnist


@pytest.mark.parametrize("name", ["trials.parquet", "summary.json", "report.html", "driver.lock"])
def test_a_folder_with_the_name_of_a_file_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(MixUnlearnError, match=rf"{name} is a folder, but a file .*; move it away"):
        StudyFolder(path=tmp_path).require()


def test_a_file_with_the_name_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("")
    with pytest.raises(MixUnlearnError, match=r"plots is a file, but a folder .*; move it away"):
        StudyFolder(path=tmp_path).require()
