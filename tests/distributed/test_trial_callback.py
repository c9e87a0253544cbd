"""What the end of a trial writes to the study, to MLflow and to the study's folder."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Run

from distributed.runtime.progress import Progress
from distributed.runtime.signals import Stop
from distributed.search.checkpoints import Checkpoints
from distributed.search.searcher import StudySearcher
from distributed.search.storage_news import StorageNews
from distributed.search.trial_callback import NAME_LENGTH, TrialCallback, run_name
from distributed.study.folder import StudyFolder
from distributed.study.study import Study
from distributed.study.trials_table import read_trials
from distributed.tracking.tracker import Tracker
from mixunlearn.data.arrow import make_dataset
from mixunlearn.files import Files
from tests.distributed.test_study import open_study, space
from tests.distributed.test_tracking import PATIENCE_S, Place, empty_database, local

# SQLAlchemy warns MLflow about its next release.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")
__all__ = ["empty_database", "local"]  # fixtures


def make_callback(folder: Path, study: Study, tracker: Tracker) -> TrialCallback:
    return TrialCallback(
        study=study,
        tracker=tracker,
        folder=StudyFolder(path=folder),
        dataset=make_dataset(
            np.zeros((1, 1, 2, 2), np.uint8),
            np.zeros(1, np.int64),
            classes=["one"],
            n_train=1,
            source="made",
        ),
        epochs=3,
        scheduler="asha",
        trial_seconds=None,
        total=5,
        tags={"mixunlearn.method": "mixunlearn", "mixunlearn.code": "of this driver"},
        checkpoints=Checkpoints(Files.of(folder / "checkpoints"), "gap/avg", {}),
        stop=Stop(),
        progress=Progress(),
    )


def told(folder: Path, place: Place, then: Callable[[TrialCallback], None]) -> None:
    """Open the study and log all of it to MLflow, then what happens next."""
    study, tracker = open_study(folder), place.tracker("study")
    tracker.start_study("study", {}, {}, "")
    callback = make_callback(folder, study, tracker)
    callback.resume()
    then(callback)
    study.close()
    assert tracker.close(PATIENCE_S) == []


def five_trials(callback: TrialCallback) -> None:
    for gaps in ((9.0, 4.0, 5.0), (7.0, 6.0), (), (1.0, 2.0, 3.0), (8.0,)):
        trial = SimpleNamespace(config=callback.study.ask(), status="RUNNING", error_file=None)
        callback.on_trial_start(0, [], trial)
        trial.last_result = {"epoch": 0, "seconds": 0.0}
        for epoch, gap in enumerate(gaps, start=1):
            measured = {"acc/val": 90.0, "gap/acc/val": gap, "gap/avg": gap}
            trial.last_result = {"epoch": epoch, **measured, "seconds": 1.5 * epoch}
            callback.on_trial_result(0, [], trial, trial.last_result)
        end(callback, trial)


def end(callback: TrialCallback, trial: Any) -> None:
    match trial.config["trial"]:
        case 2:
            trial.last_result |= {"failure": "ValueError: odd", "trace": "Traceback: http://a:b@c"}
            callback.on_trial_complete(0, [], trial)
        case 4:
            trial.error_file = str(callback.folder.path / "ray's.txt")
            Path(trial.error_file).write_text("Traceback (most recent call last):\nOSError: gone\n")
            callback.on_trial_error(0, [], trial)
        case _:
            callback.on_trial_complete(0, [], trial)


def artifact(place: Place, run: Run, folder: Path) -> str:
    names = [file.path for file in place.client.list_artifacts(run.info.run_id)]
    if names != ["error.txt"]:
        return ", ".join(names)
    return Path(place.client.download_artifacts(run.info.run_id, names[0], str(folder))).read_text()


def test_what_became_of_trials_is_in_their_runs(local: Place, tmp_path: Path) -> None:
    for then in (five_trials, lambda _: None, lambda _: None):  # logged again, it is the same
        told(tmp_path, local, then)
        parent, *children = local.runs()
        assert children[0].info.run_name.startswith("0000 mixunlearn lr=0.0001 lr_gen=0.001 ")
        assert [run.info.status for run in children] == [
            *("FINISHED", "KILLED", "FAILED", "FINISHED", "FAILED")
        ]
        assert [run.data.tags.get("mixunlearn.reason") for run in children] == [
            None,
            "stopped early by asha after epoch 2 of 3",
            "ValueError: odd",
            None,
            "OSError: gone",
        ]
        # MLflow compares runs by the first of their metrics.
        assert list(children[0].data.metrics)[:3] == ["gap/avg", "gap/acc/val", "acc/val"]
        # A trial that was only interrupted is KILLED, too, but nothing says that it was pruned.
        assert [run.data.tags.get("mlflow.note.content") for run in children] == [
            None,
            "pruned: stopped early by asha after epoch 2 of 3",
            "failed: ValueError: odd",
            None,
            "failed: OSError: gone",
        ]
        assert [run.data.metrics["time/trial_s"] for run in children] == [4.5, 3.0, 0.0, 4.5, 1.5]
        assert [artifact(local, run, tmp_path) for run in children] == [
            *("", "", "Traceback: http://***@c", ""),
            "Traceback (most recent call last):\nOSError: gone\n",
        ]
        history = {name: local.history(parent, f"so_far/{name}") for name in ("best", "median")}
        # The third and the fifth failed.
        assert history["best"] == [(1, 5.0), (2, 5.0), (3, 5.0), (4, 3.0), (5, 3.0)]
        assert history["median"] == [(1, 5.0), (2, 5.5), (3, 5.5), (4, 5.0), (5, 5.0)]
    rows = open_study(tmp_path).rows()
    assert [row["error"] for row in rows] == [None, None, "ValueError: odd", None, "OSError: gone"]


def test_each_end_is_shown_and_in_the_table(
    local: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(Progress, "show", lambda _, line, *, event, count: shown.append(line))
    told(tmp_path, local, five_trials)
    first, last = shown[0], shown[-1]
    assert first.startswith("trials: 0 of 5 done, 0 pruned, 0 failed, 0 running, 0 epochs")
    assert "best" not in first
    what = "5 of 5 done, best gap/avg 3.00, 1 pruned, 2 failed, 0 running, 9 epochs"
    assert last.startswith(f"trials: {what}")
    table = read_trials(StudyFolder(path=tmp_path).trials)
    assert [row["trial"] for row in table] == [0, 1, 2, 3, 4]
    assert all(row["mlflow_run_id"] for row in table)
    # A driver that starts again counts what ended before.
    shown.clear()
    told(tmp_path, local, lambda callback: callback._show([], event=True))
    assert shown[0].startswith(f"trials: {what.replace('9 epochs', '0 epochs')}")


def test_progress_told_before_a_driver_died_is_not_doubled(local: Place, tmp_path: Path) -> None:
    told(tmp_path, local, five_trials)
    local.client.delete_tag(local.runs()[0].info.run_id, "mixunlearn.step")
    told(tmp_path, local, lambda _: None)
    steps = [step for step, _ in local.history(local.runs()[0], "so_far/best")]
    assert steps == [1, 2, 3, 4, 5]


def test_a_trial_that_is_run_again_ends_once_more(local: Place, tmp_path: Path) -> None:
    told(tmp_path, local, five_trials)

    def again(callback: TrialCallback) -> None:
        assert callback.study.retry_failed() == 2
        trial = SimpleNamespace(config=callback.study.ask(), status="RUNNING", error_file=None)
        trial.last_result = {"epoch": 3, "gap/avg": 0.5, "seconds": 1.0}
        callback.on_trial_start(0, [], trial)
        callback.on_trial_result(0, [], trial, trial.last_result)
        callback.on_trial_complete(0, [], trial)

    told(tmp_path, local, again)
    told(tmp_path, local, lambda _: None)
    _, *children = local.runs()
    assert children[2].data.tags["mixunlearn.state"] == "complete"
    assert not children[2].data.tags.get("mlflow.note.content")  # it failed at first
    best = local.history(local.runs()[0], "so_far/best")
    assert best == [(1, 5.0), (2, 5.0), (3, 5.0), (4, 3.0), (5, 3.0), (6, 0.5)]


def test_a_trial_keeps_the_code_that_proposed_it(local: Place, tmp_path: Path) -> None:
    told(tmp_path, local, five_trials)
    codes = {run.data.tags.get("mixunlearn.code") for run in local.runs()[1:]}
    assert codes == {open_study(tmp_path).code(0)}
    assert "of this driver" not in codes


def test_names_of_runs_are_sorted_and_short() -> None:
    values = {"lr": 1.23456e-5, "lr_gen": 0.0012345, "omega": 12.0, "tau_gen": 0.5, "batch": 32}
    name = run_name(7, "mixunlearn", values, space())
    assert name == "0007 mixunlearn lr=1.2e-05 lr_gen=0.0012 omega=12 tau_gen=0.5"
    names = [run_name(number, "mixunlearn", values, space()) for number in (2, 10, 999, 1000)]
    assert names == sorted(names)
    long = run_name(7, "m" * 70, values, space())
    assert len(long) <= NAME_LENGTH
    fixed = space(lr=1e-4, lr_gen=1e-3, omega=1.0)  # what does not vary is not named
    assert run_name(7, "mixunlearn", values, fixed) == "0007 mixunlearn tau_gen=0.5"


def test_no_trial_starts_while_the_storage_does_not_answer(
    local: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, aside = tmp_path / "checkpoints", tmp_path / "aside"
    folder.mkdir()
    study, tracker = open_study(tmp_path), local.tracker("study")
    callback = make_callback(tmp_path, study, tracker)
    said: list[str] = []
    monkeypatch.setattr(callback._news, "_say", said.append)
    assert tracker.close(PATIENCE_S) == []
    tries: list[float] = []

    def pause(seconds: float) -> None:
        tries.append(seconds)
        if len(tries) == 3:
            folder.unlink()
            aside.rename(folder)

    monkeypatch.setattr("mixunlearn.patience.time.sleep", pause)
    for _ in range(2):
        tries.clear()
        folder.rename(aside)
        folder.touch()
        assert StudySearcher(study, callback.may_start).suggest("a trial")
    away, back = said[:2]
    assert away.startswith(f"storage.files = '{folder.as_uri()}': ")
    assert away.endswith("; waiting for it")
    assert back == "the storage answers again"
    assert said[2:] == [away, back]
    folder.rename(aside)
    folder.touch()
    callback.stop.ask("SIGTERM")
    assert not callback.may_start()  # a stop is not kept waiting
    study.close()


def test_a_driver_that_hears_nothing_asks_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, said = tmp_path / "runs", list[str]()
    news = StorageNews(Files.of(folder), said.append)
    folder.touch()
    news.look()  # a result may come any time
    assert said == []
    monkeypatch.setattr("distributed.search.storage_news.SILENCE_S", 0.0)
    for _ in range(2):
        news.look()
    folder.unlink()
    news.look()
    assert len(said) == 2
    assert said[0].endswith("; waiting for it")
    assert said[1] == "the storage answers again"
