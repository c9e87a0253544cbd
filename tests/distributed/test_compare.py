"""A whole comparison on digits, stopped and resumed: real Ray, real Optuna, real MLflow."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pyarrow.parquet as pq
import pytest
import yaml

from distributed.compare.cells import cells, chosen, merged
from distributed.config.comparison import read_comparison
from mixunlearn.errors import InputError
from tests.fixtures import Command

COMPARISON: dict[str, Any] = {
    "name": "tiny",
    "experiment": {
        "references": {"seeds": 2, "epochs": 3, "lr": 3e-3},
        "search": {"trials": 2, "epochs": 1, "scheduler": "none"},
    },
    "methods": {
        "finetune": None,
        "w/o MixBlock": {
            "method": "mixunlearn",
            "space": {"mixing": "mixup", "pairing": "any"},
        },
    },
    "data": {
        "digits": {
            "data": {"source": "digits", "limit": {"train": 500}},
            "model": {"name": "cnn", "width": 4},
        }
    },
    "tasks": {"class": {"kind": "class", "classes": [0]}},
    "labels": ["aware", "agnostic"],
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "comparison.yaml"
    path.write_text(yaml.safe_dump(merged(COMPARISON, changes)))
    return path


# A stop may come between the opening of a file, of a library's process say, and the line that
# would close it: then the garbage collector does.
UNCLOSED = pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@contextmanager
def stopped_when(it_is_time: Callable[[], bool]) -> Iterator[None]:
    """Send this process a SIGTERM as soon as a condition is true."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            if it_is_time():
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
@pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")
@UNCLOSED
def test_a_comparison_goes_on_where_it_was_stopped(mixunlearn: Command, tmp_path: Path) -> None:
    home, path = tmp_path / "home", written(tmp_path)
    words = ["compare", str(path), "--home", str(home), "--json"]

    first = mixunlearn(*words, "--only", "method=finetune,labels=aware")
    assert first.code == 0, first.err
    tables = {each.name for each in (home / "studies").iterdir()}
    assert len(tables) == 1
    shown = pq.read_table(home / "comparisons" / "tiny" / "comparison.parquet").to_pylist()
    states = ["", "n/a: needs labels", "to come", "to come"]  # also of cells that were not chosen
    assert sorted(row["absent"] for row in shown) == states

    planned = mixunlearn(*words, "--dry-run").result["cells"]
    assert sorted(state.partition(":")[0] for state in planned.values()) == [
        "done",
        "n/a",
        "to run",
        "to run",
    ]

    before = (next((home / "studies").iterdir()) / "trials.parquet").stat().st_mtime_ns
    page = home / "comparisons" / "tiny" / "comparison.html"
    page.unlink()
    with stopped_when(lambda: len(list((home / "studies").iterdir())) > 1):
        cut = mixunlearn(*words)
    assert cut.code == 1, cut.err
    assert "to come" in page.read_text()  # next to the results so far
    whole = mixunlearn(*words)
    assert whole.code == 0, whole.err
    assert "finetune on digits, class, label-aware" not in whole.err  # it was done
    assert {each.name for each in (home / "studies").iterdir()} > tables
    (done,) = tables
    assert (home / "studies" / done / "trials.parquet").stat().st_mtime_ns == before

    methods = {
        *(f"digits/class/aware/{name}" for name in ("finetune", "w/o MixBlock", "doing nothing")),
        *(f"digits/class/agnostic/{name}" for name in ("w/o MixBlock", "doing nothing")),
    }
    assert whole.result["groups"].keys() == methods
    assert whole.result["distances"].keys() == {f"distance/{name}" for name in methods}
    folder = home / "comparisons" / "tiny"
    rows = pq.read_table(folder / "comparison.parquet").to_pylist()
    assert len(rows) == 4
    assert [row["absent"] for row in rows if row["absent"]] == ["n/a: needs labels"]
    assert all(row["trials"] == 2 and row["gap/avg"] >= 0 for row in rows if not row["absent"])
    shown_now = page.read_text()
    assert "w/o MixBlock" in shown_now
    assert "n/a" in shown_now
    assert "to come" not in shown_now
    assert shown_now.count('<svg role="img"') == 2
    all_runs(folder)
    assert r"\begin{tabular}" in (folder / "comparison.tex").read_text()
    in_mlflow(home)


def all_runs(folder: Path) -> None:
    """Each model on `test` has a row, references and originals too."""
    runs = pq.read_table(folder / "comparison_runs.parquet").to_pylist()
    assert {each["method"] for each in runs} == {
        *("retrained references", "doing nothing", "finetune", "w/o MixBlock")
    }
    assert all(0 <= each["acc/test_retain"] <= 100 for each in runs)


def in_mlflow(home: Path) -> None:
    """The comparison's run is the parent of its three studies' runs, these of the trials' runs."""
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment
    (parent,) = client.search_runs(
        [experiment.experiment_id], "tags.`mixunlearn.study` = 'comparison tiny'"
    )
    assert parent.info.status == "FINISHED"
    studies = client.search_runs(
        [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert len(studies) == 3
    trials = client.search_runs(
        [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{studies[0].info.run_id}'"
    )
    assert len(trials) == 2
    names = {each.path for each in client.list_artifacts(parent.info.run_id)}
    files = {"comparison.html", "comparison.parquet", "comparison.tex"}
    assert names == {*files, "comparison_runs.parquet"}


def test_cells_share_all_but_their_place(tmp_path: Path) -> None:
    found = cells(read_comparison(written(tmp_path, seeds=[0, 1])))
    assert len(found) == 2 * 2 * 2
    experiments = [cell.experiment for cell in found if cell.experiment]
    assert len(experiments) == 6
    assert {each.search.trials for each in experiments} == {2}
    assert {each.search.seed for each in experiments} == {0, 1}
    assert {each.method for each in experiments} == {"finetune", "mixunlearn"}
    assert {cell.incompatible for cell in found if not cell.experiment} == {"needs labels"}


def test_only_some_cells(tmp_path: Path) -> None:
    found = cells(read_comparison(written(tmp_path)))
    some = chosen(found, "method=finetune,method=w/o MixBlock,labels=agnostic")
    assert [(cell.method, cell.labels) for cell in some] == [
        ("finetune", "agnostic"),
        ("w/o MixBlock", "agnostic"),
    ]
    assert chosen(found, None) == found


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ("methods=finetune", "--only = 'methods=finetune': write axis=name"),
        (
            "method=finetune,labels=agnostic",
            "--only = 'method=finetune,labels=agnostic': leaves no",
        ),
        ("method=finetun", "--only = 'method=finetun': no such method; did you mean 'finetune'?"),
    ],
)
def test_cells_that_are_not_there(tmp_path: Path, only: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        chosen(cells(read_comparison(written(tmp_path))), only)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": {}}, "method = {}: unknown key; did you mean 'methods'?"),
        ({"methods": {"finetune": {"lr": 1}}}, "methods.finetune.lr = 1: unknown key"),
        ({"methods": {"fine": None}}, "methods.fine = None: unknown; did you mean 'finetune'?"),
        ({"labels": ["aware", "aware"]}, "labels = ['aware', 'aware']: lists a value twice"),
        ({"data": {"digits": {"search": {}}}}, "data.digits.search = {}: not allowed here"),
        ({"tasks": {"class": {"kind": "clas"}}}, "task.kind = 'clas': must be one of"),
        ({"seeds": []}, "seeds = []: "),
        ({"labels": ["none"]}, "labels.0 = 'none': must be 'aware' or 'agnostic'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_comparisons_that_mean_nothing(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        cells(read_comparison(written(tmp_path, **changes)))
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_a_space_with_more_knobs_than_others_is_refused(
    mixunlearn: Command, tmp_path: Path
) -> None:
    path = written(tmp_path, methods={"mixunlearn": None})
    run = mixunlearn("compare", str(path), "--home", str(tmp_path / "home"))
    assert run.code == 2
    assert "methods.mixunlearn.space = 10: varies lr, lr_gen, omega" in run.err
    assert not (tmp_path / "home" / "studies").exists()
