import errno
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from distributed.study.trials_table import FIXED, read_trials, trials_table, write_trials
from mixunlearn.errors import MissingError, MixUnlearnError

ROW: dict[str, object] = {
    "study": "night-1",
    "trial": 0,
    "trial_id": "0011aabb",
    "method": "mixunlearn",
    "state": "complete",
    "epochs": 6,
    "seconds": 1.5,
    "mlflow_run_id": "f" * 32,
    "error": None,
}


def trial(number: int, **more: object) -> dict[str, object]:
    return {**ROW, "trial": number, **more}


def column_types(path: Path) -> dict[str, str]:
    return {field.name: str(field.type) for field in pq.read_schema(path)}


def test_round_trip(tmp_path: Path) -> None:
    rows = [
        trial(0, **{"params/lr": 1e-4, "params/pairing": "any", "acc/val": 97.5, "gap/avg": 2.0}),
        trial(1, **{"params/lr": 3e-4, "params/pairing": "any", "acc/val": 96.0, "gap/avg": 3.5}),
    ]
    path = tmp_path / "studies" / "night-1" / "trials.parquet"
    write_trials(rows, path)
    assert read_trials(path) == rows


def test_missing_values_and_nan_are_null(tmp_path: Path) -> None:
    path = tmp_path / "trials.parquet"
    rows = [
        trial(0, **{"acc/val": float("nan"), "params/steps": 3}),
        trial(1, seconds=float("nan"), mlflow_run_id=None, **{"z/mia/asr": 0.5}),
    ]
    write_trials(rows, path)
    first, second = read_trials(path)
    assert (first["acc/val"], first["z/mia/asr"], first["params/steps"]) == (None, None, 3)
    assert (second["acc/val"], second["params/steps"], second["seconds"]) == (None, None, None)
    assert column_types(path)["params/steps"] == "int64"


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        ([True, False], "bool", [True, False]),
        ([1, 2], "int64", [1, 2]),
        ([1, 0.5], "double", [1.0, 0.5]),
        (["any", None], "string", ["any", None]),
        (["any", 3], "string", ["any", "3"]),
        ([True, 3], "string", ["True", "3"]),
        ([2**70, 1], "string", [str(2**70), "1"]),
        ([[0, 1], [2]], "string", ["[0, 1]", "[2]"]),
        ([np.float32(0.5), np.int64(2)], "double", [0.5, 2.0]),
        ([None, float("nan")], "string", [None, None]),
    ],
)
def test_a_parameter_has_one_type(
    tmp_path: Path, values: list[object], kind: str, read: list[object]
) -> None:
    path = tmp_path / "trials.parquet"
    write_trials([trial(i, **{"params/x": value}) for i, value in enumerate(values)], path)
    assert column_types(path)["params/x"] == kind
    assert [row["params/x"] for row in read_trials(path)] == read


def test_columns_are_in_order(tmp_path: Path) -> None:
    path = tmp_path / "trials.parquet"
    more = ["z/acc/val", "gap/avg", "acc/val", "params/b", "gap/acc/val", "time/unlearn_s"]
    write_trials([trial(0, **dict.fromkeys(more, 1)), trial(1, **{"params/a": 1})], path)
    rest = ["params/a", "params/b", "acc/val", "time/unlearn_s", "gap/acc/val", "gap/avg"]
    first = ["study", "trial", "trial_id", "method", "state", "epochs", "seconds"]
    assert list(column_types(path)) == [*first, *rest, "z/acc/val", "mlflow_run_id", "error"]
    assert column_types(path)["acc/val"] == "double"


def test_no_rows_still_have_columns(tmp_path: Path) -> None:
    path = tmp_path / "trials.parquet"
    write_trials([], path)
    assert read_trials(path) == []
    assert list(column_types(path)) == list(FIXED)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (3, 3.0),
        (True, 1.0),
        (None, None),
        (float("nan"), None),
        (np.float32("nan"), None),
        (float("inf"), float("inf")),
        (-float("inf"), -float("inf")),
        (np.float64("inf"), float("inf")),
        (np.longdouble(0.25), 0.25),
        (np.int64(3), 3.0),
    ],
)
def test_a_metric_is_null_for_nan_and_keeps_infinity(value: object, cell: float | None) -> None:
    column = trials_table([trial(0, **{"acc/val": value})])["acc/val"]
    assert str(column.type) == "double"
    assert column.to_pylist() == [cell]


def test_a_list_is_kept_as_it_is_written() -> None:
    rows = [trial(0, **{"params/layers": (1, float("nan"))})]
    assert trials_table(rows)["params/layers"].to_pylist() == ["(1, nan)"]


@pytest.mark.parametrize("bad", [{"acc/val": "high"}, {"epochs": "six"}, {"study": 3}])
def test_an_unsound_column_is_named_and_nothing_changes(
    tmp_path: Path, bad: dict[str, object]
) -> None:
    path = tmp_path / "trials.parquet"
    write_trials([trial(0)], path)
    with pytest.raises(MixUnlearnError, match=next(iter(bad))):
        write_trials([{**trial(0), **bad}], path)
    assert read_trials(path) == [trial(0)]


def test_a_failing_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trials.parquet"
    write_trials([trial(0)], path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_trials([trial(0), trial(1)], path)
    assert read_trials(path) == [trial(0)]
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="mixunlearn sweep"):
        read_trials(tmp_path / "trials.parquet")
