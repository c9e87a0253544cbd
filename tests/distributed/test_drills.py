"""A short version of most drills: one run, on fewer trials, with `make test-drills`."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.drills import run as running
from tests.drills import tracking
from tests.drills.ground import Ground, Outcome
from tests.drills.registry import DRILLS
from tests.drills.run import Run, log, markdown, options, perform, recorded, write

SIZE = {"trials": 3, "epochs": 2}
SEEDS = {  # seeds of cheap variants
    "kill-driver": 0,
    "stop-driver": 7,
    "two-drivers": 2,
    "kill-worker": 1,
    "failing-trials": 28,
    "torn-files": 1,
    "lost-node": 0,
    "mlflow-outage": 1,
    "postgresql-restart": 1,
    "full-disk": 1,
    "requests": 0,
    "hostile-input": 3,
}
# Here a test of the mechanism is as good, and takes no sweep.
COVERED = {
    "storage-away": "test_no_trial_fails_because_its_checkpoints_cannot_be_written_or_are_gone",
    "checkpoints-deleted": (
        "test_no_trial_fails_because_its_checkpoints_cannot_be_written_or_are_gone"
    ),
    "home-moved": "tests of homes",
    "lock-removed": "test_without_the_lock_file_no_second_driver_gets_in",
}
Runs = dict[str, Future[Run]]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    ground = Ground(tmp_path_factory.mktemp("ground"), SIZE, apart=True)
    yield ground
    ground.close()
    ground.clear(patience_s=0)  # Ray's agents need a minute to end; only `make drills` waits


@pytest.fixture(scope="module")
def runs(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """All runs, two at a time: most of a drill is waiting."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(tracking, "OUTAGE_S", 4.0)
        yield {
            name: pool.submit(perform, name, seed, folder / name, ground)
            for name, seed in SEEDS.items()
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.drill
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")
@pytest.mark.parametrize("name", SEEDS)
def test_drill(name: str, runs: Runs) -> None:
    outcome = runs[name].result().outcome
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.clean, outcome


def test_runs_are_read_as_they_were_written(tmp_path: Path) -> None:
    path, drill = tmp_path / "drills.jsonl", next(iter(DRILLS))
    assert recorded(path) == []
    outcomes = [Outcome(moment="then", lost=1, seconds=2.5), Outcome(note="wrong")]
    for outcome in outcomes:
        log(Run(drill=drill, seed=3, took=1.5, outcome=outcome), path)
    assert recorded(path) == [Run(drill=drill, seed=3, took=1.5, outcome=outcomes[1])]


def test_every_drill_has_a_short_version_or_a_test_of_its_mechanism() -> None:
    assert SEEDS.keys() | COVERED.keys() == DRILLS.keys()


def test_the_table_takes_its_place_in_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- the table of `make drills` -->\nold\n<!-- end of the table -->\nafter\n"
    )
    write(page, markdown([], options(["--seed", "3"])))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| drill | runs | lost |" in text
    assert "--seed 3" in text


@pytest.mark.parametrize(("words", "pages"), [([], 1), (["requests"], 0)])
def test_some_drills_leave_the_rows_of_all_others(
    words: list[str], pages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    ground = SimpleNamespace(open=True, clear=list)
    monkeypatch.setattr(running, "Ground", lambda *_: ground)
    monkeypatch.setattr(running, "write", lambda page, _: written.append(page))
    monkeypatch.setattr(
        running,
        "perform",
        lambda name, seed, *_: Run(drill=name, seed=seed, took=1.0, outcome=Outcome()),
    )
    places = ["--folder", str(tmp_path / "files"), "--results", str(tmp_path / "drills.jsonl")]
    assert running.main(["--write", "--runs", "1", *places, *words]) == 0
    assert len(written) == pages
