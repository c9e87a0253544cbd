"""Where a study is kept: file systems, old studies of the same name, checkpoints, disk."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from distributed.config.read import make_experiment
from distributed.plan.disk import estimate
from distributed.plan.location import is_network, record_address
from distributed.plan.make import earlier, make_plan
from distributed.plan.plan import Plan, resolved
from distributed.search.checkpoints import Checkpoints
from mixunlearn.errors import InputError
from mixunlearn.files import Files

EXPERIMENT: dict[str, Any] = {
    "name": "small",
    "data": {"source": "digits"},
    "model": {"name": "cnn", "width": 4},
    "task": {"kind": "class"},
}


def plan(home: Path, **changes: Any) -> Plan:
    experiment = make_experiment({**EXPERIMENT, **changes})
    return make_plan(experiment, home, command="mixunlearn")


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "9p", "lustre", "fuse.sshfs", "CEPH"])
def test_network_file_systems_are_known(kind: str) -> None:
    assert is_network(kind)


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "apfs", "fuseblk", ""]
)
def test_local_file_systems_are_known(kind: str) -> None:
    assert not is_network(kind)


def test_a_study_on_a_local_disk_is_recorded_in_sqlite(tmp_path: Path) -> None:
    assert record_address(None, tmp_path) == f"sqlite:///{tmp_path}/study.db"


def test_on_a_network_file_system_it_is_a_journal_and_sqlite_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SimpleNamespace(mountpoint=str(tmp_path), fstype="nfs4")
    monkeypatch.setattr("distributed.plan.location.psutil.disk_partitions", lambda all: [disk])
    assert record_address(None, tmp_path / "study") == f"journal:///{tmp_path}/study/study.journal"
    with pytest.raises(InputError, match=r"storage.study = .*not safe on a network file system"):
        record_address(f"sqlite:///{tmp_path}/study.db", tmp_path)
    assert record_address("postgresql://me@host/db", tmp_path) == "postgresql://me@host/db"


@pytest.mark.parametrize("longer", [0, 1])
def test_a_path_that_is_too_long_for_sqlite_is_named_before_anything_runs(
    tmp_path: Path, longer: int
) -> None:
    home = tmp_path / "é"
    while len(str(home)) < 400:
        home /= "x" * 40
    short = home / "studies" / "s" / "study.db"
    folder = home / "studies" / ("s" * (504 + longer - len(os.fsencode(short))))
    database = folder / "study.db"
    assert len(os.fsencode(database)) == 503 + longer
    folder.mkdir(parents=True)
    if longer:
        with pytest.raises(InputError, match=r"--home = .*: 504 bytes for the path of study.db; "):
            record_address(None, folder)
        return
    record_address(None, folder)
    with closing(sqlite3.connect(database)) as connection:  # SQLite agrees
        connection.execute("CREATE TABLE t (a)")


def test_a_hidden_password_is_left_to_libpq(tmp_path: Path) -> None:
    kept = make_experiment({**EXPERIMENT, "storage": {"study": "postgresql://me:secret@host/db"}})
    assert "secret" not in resolved(kept)
    again = make_experiment(yaml.safe_load(resolved(kept)))
    assert record_address(again.storage.study, tmp_path) == "postgresql://me@host/db"


def test_places_make_no_other_study(tmp_path: Path) -> None:
    places = {"study": f"sqlite:///{tmp_path}/elsewhere.db", "files": str(tmp_path / "files")}
    assert plan(tmp_path).study == plan(tmp_path, storage=places).study


def test_a_changed_setting_names_the_study_it_leaves(tmp_path: Path) -> None:
    old = plan(tmp_path)
    assert earlier(old) == []
    old.folder.mkdir(parents=True)
    (old.folder / "experiment.yaml").write_text(resolved(old.experiment))
    assert earlier(old) == []
    changed = plan(tmp_path, search={"epochs": 9, "trials": 3}, resources={"cpu": 2})
    assert earlier(changed) == [(old.study, ["search.epochs: 6 → 9"])]
    assert earlier(plan(tmp_path, name="other", search={"epochs": 9})) == []
    (old.folder / "experiment.yaml").write_text("- no experiment")
    assert earlier(changed) == []


def row(trial: int, gap: float, **hyperparameters: object) -> dict[str, Any]:
    named = {f"params/{name}": value for name, value in hyperparameters.items()}
    return {"trial": trial, "state": "complete", "gap/avg": gap, "epochs": 4, **named}


def test_checkpoints_are_kept_of_running_trials_the_best_and_the_default(tmp_path: Path) -> None:
    def make(run: str, *trials: int) -> None:
        for trial in trials:
            folder = tmp_path / run / f"{trial:04d}" / "checkpoint_000000"
            folder.mkdir(parents=True)
            (folder / "state.json").write_text("{}")

    make("1", 0, 1, 2, 9)
    make("2", *range(3, 10))
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "tuner.pkl").write_text("")
    checkpoints = Checkpoints(Files.of(tmp_path), "gap/avg", {"lr": 1.0})
    make("3", 7, 10)  # the run that continues
    rows = [row(trial, 100.0 - trial, lr=float(trial + 1)) for trial in range(9)]
    checkpoints.tidy(rows)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")}
    # 0 is the default, 4 to 8 the best, 9 and 10 still run; of 7 the newest is enough.
    assert left == {
        "1/0000",
        "1/0009",
        *(f"2/000{trial}" for trial in (4, 5, 6, 8, 9)),
        "3/0007",
        "3/0010",
    }
    checkpoints.tidy([*rows, row(9, 200.0, lr=5.0), row(10, 200.0, lr=5.0)])
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")}
    assert left == {"1/0000", *(f"2/000{trial}" for trial in (4, 5, 6, 8)), "3/0007"}


def test_the_disk_a_study_takes_does_not_depend_on_its_trials_but_for_records(
    tmp_path: Path,
) -> None:
    few, many = (
        estimate(plan(tmp_path, search={"trials": trials}), slots=2) for trials in (10, 1000)
    )
    assert few.pop("records") * 100 == many.pop("records")
    assert few == many
    weights = sum(
        t.nbytes for t in plan(tmp_path).references.architecture.build(0).state_dict().values()
    )
    assert few["checkpoints"] > 10 * 3 * weights  # weights and Adam's moments, ten times
