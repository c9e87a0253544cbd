"""`purge`: what it removes here and remotely, who keeps it away, and that it can be cut off."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from distributed.config.read import make_experiment
from distributed.plan.make import find_study, make_plan
from distributed.plan.plan import Plan
from distributed.requests import purge as purging
from distributed.requests.purge import Removal, purge
from distributed.search.runs import write_published
from distributed.study.lock import DatabaseLock, FileLock
from mixunlearn.errors import InputError, MixUnlearnError
from tests.fixtures import Command

IDS = [11, 23, 47]
Begun = Callable[..., Plan]


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begun:
    """Begin studies in one home, with trained models and files that trials leave."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def begin(name: str = "request", files: Path | None = None, record: str | None = None) -> Plan:
        content = {
            "name": name,
            "data": {"source": "digits", "limit": {"train": 300}},
            "model": {"name": "cnn", "width": 4},
            "task": {"kind": "ids", "ids": IDS},
            "references": {"seeds": 1, "originals": 1, "epochs": 1},
            "storage": {"files": str(files) if files else None, "study": record},
        }
        plan = make_plan(make_experiment(content), tmp_path / "home", command="a test").keep()
        plan.references.fill()
        write_published(plan)
        for place in (plan.checkpoints, plan.reference_checkpoints):
            (place / "trial").write("state.pt", b"knows")
        plan.study_folder.spool.write_text("{}")
        plan.study_folder.report.write_text('<p>a</p><img src="data:image/png;base64,AA" alt="">')
        margins = tmp_path / "home" / "evidence" / plan.study / "quick" / "margins.safetensors"
        margins.parent.mkdir(parents=True)
        margins.write_bytes(b"margins")
        board = {"methods": [{"study": plan.study}]}
        margins.with_name("leaderboard.json").write_text(json.dumps(board))
        return plan

    return begin


def kinds(root: Path) -> dict[str, int]:
    """Return the number of entries of each kind in a store."""
    found = {kind.name: len([*kind.iterdir()]) for kind in (root / "store").iterdir()}
    return {kind: count for kind, count in found.items() if count}


def left(plan: Plan) -> list[str]:
    """Return which of the things that must go are still there."""
    home, folder = plan.home, plan.study_folder
    paths = {
        "cache": home / "cache",
        "checkpoints": folder.path / "checkpoints",
        "models": folder.path / "models",
        "spool": folder.spool,
        "margins": home / "evidence" / plan.study / "quick" / "margins.safetensors",
    }
    found = [name for name, path in paths.items() if path.exists()]
    content = yaml.safe_load(folder.experiment.read_text())
    pictured = "data:image" in folder.report.read_text()
    return [*found, *["ids"] * (content["task"]["ids"] == IDS), *["picture"] * pictured]


def test_what_knows_the_images_goes_and_results_stay(begun: Begun) -> None:
    plan = begun()
    assert kinds(plan.home) == {"evaluations": 4, "models": 2, "splits": 1, "teachers": 1}
    removed = purge([plan.study], [], plan.home)
    assert kinds(plan.home) == {"models": 1}
    assert left(plan) == []
    assert {each.what for each in removed} >= {"originals", "lists of images", "decoded images"}
    assert plan.study_folder.report.read_text() == "<p>a</p>"
    assert json.loads(plan.study_folder.purged.read_text())["purged"]
    with pytest.raises(InputError, match="was purged: only its results are left"):
        find_study(plan.study, [], plan.home)
    assert purge([], [], plan.home) == []


def test_a_dry_run_removes_nothing(begun: Begun) -> None:
    plan = begun()
    before = {path: path.stat().st_mtime_ns for path in plan.home.rglob("*")}
    assert purge([plan.study], [], plan.home, dry_run=True)
    assert {path: path.stat().st_mtime_ns for path in plan.home.rglob("*")} == before


def test_what_is_kept_elsewhere_goes_as_well(begun: Begun, tmp_path: Path) -> None:
    plan = begun(files=tmp_path / "shared")
    shared = tmp_path / "shared"
    own = shared / "studies" / plan.study
    (own / "experiment.yaml").write_text(f"ids: {IDS}")
    assert kinds(shared)["models"] == 2
    purge([plan.study], [], plan.home)
    assert kinds(shared) == {"models": 1}
    assert [path.name for path in own.iterdir()] == ["experiment.yaml"]
    assert "3 images, not published" in (own / "experiment.yaml").read_text()
    assert left(plan) == []


@pytest.mark.parametrize("at", [0, 5, 11, 12])
def test_a_purge_that_was_cut_off_is_finished_by_the_same_command(
    begun: Begun, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    plan, real = begun(), Removal.do
    done: list[Removal] = []

    def die(self: Removal) -> None:
        if len(done) == at:
            raise KeyboardInterrupt
        done.append(self)
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Removal, "do", die)
        # What comes after the last removal: the experiment and the report.
        patch.setattr(purging, "_rewrite", lambda path, _: die(Removal(what="", place=path)))
        with pytest.raises(KeyboardInterrupt):
            purge([plan.study], [], plan.home)
    with pytest.raises(InputError, match="ends a purge that was cut off"):
        find_study(plan.study, [], plan.home)
    purge([plan.study], [], plan.home)
    assert left(plan) == []
    assert kinds(plan.home) == {"models": 1}


def test_a_home_in_use_is_refused_and_nothing_is_removed(begun: Begun) -> None:
    plan, other = begun(), begun("other")
    lock = FileLock(other.study_folder.lock, other.study)
    lock.acquire()
    try:
        with pytest.raises(MixUnlearnError, match=f"study {other.study} is locked by process"):
            purge([plan.study], [], plan.home)
    finally:
        lock.release()
    assert left(plan)
    assert not plan.study_folder.purged.exists()


def test_a_study_in_use_on_another_machine_is_refused(begun: Begun, postgres: str) -> None:
    plan = begun(record=postgres)
    # The password is not kept.
    settings = [f"storage.study={postgres}"]
    lock = DatabaseLock(postgres, plan.study)
    lock.acquire()
    try:
        with pytest.raises(MixUnlearnError, match=f"study {plan.study} is locked by process"):
            purge([plan.study], settings, plan.home)
        assert purge([plan.study], settings, plan.home, dry_run=True)
    finally:
        lock.release()
    assert left(plan)
    assert not plan.study_folder.purged.exists()
    purge([plan.study], settings, plan.home)
    assert left(plan) == []


def test_what_a_killed_verification_left_goes_with_all(begun: Begun) -> None:
    plan = begun()
    runs = plan.home / "studies" / "unlearn-0" / "models"
    (runs / "run").mkdir(parents=True)
    purge([plan.study], [], plan.home)
    assert purge([], [], plan.home, dry_run=True) == [Removal(what="checkpoints", place=runs)]
    assert runs.exists()
    purge([], [], plan.home)
    assert not runs.exists()


def test_what_requests_have_trained_goes_with_all(begun: Begun) -> None:
    plan = begun()
    shutil.rmtree(plan.study_folder.path)  # the store then is as `unlearn --verify` leaves it
    words = {"originals", "lists of images", "outputs for single images", "decoded images"}
    assert {each.what for each in purge([], [], plan.home)} == words
    assert kinds(plan.home) == {"models": 1}
    assert not (plan.home / "cache").exists()


def test_a_mistake_in_a_name_removes_nothing(begun: Begun, mixunlearn: Command) -> None:
    plan = begun()
    run = mixunlearn("purge", plan.study, "nowhere", "--home", str(plan.home))
    assert run.code == 2
    assert run.err.startswith("mixunlearn: STUDY = 'nowhere': no such study in ")
    assert left(plan)


def test_the_command_says_what_goes_and_what_stays(begun: Begun, mixunlearn: Command) -> None:
    plan = begun()
    words = ("purge", "--home", str(plan.home), "--json")
    planned = mixunlearn(*words, "--dry-run")
    assert planned.code == 0, planned.err
    assert "originals: " in planned.out
    run = mixunlearn(*words)
    assert run.code == 0, run.err
    assert run.result == planned.result
    assert run.result["removed"]["originals"] == 1
    assert "other studies of the same data train theirs again" in run.out


def test_decoded_images_of_requests_go_without_a_study(tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "image_folder-0123.arrow"
    cache.parent.mkdir()
    cache.write_bytes(b"images")
    assert [each.what for each in purge([], [], tmp_path, dry_run=True)] == ["decoded images"]
    assert cache.exists()
    purge([], [], tmp_path)
    assert not cache.parent.exists()
