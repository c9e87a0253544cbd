"""The trials table, `trials.parquet`: one row for each trial."""

import logging
import math
import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from distributed.runtime.text import one_line
from mixunlearn.atomic import replacing
from mixunlearn.errors import MissingError, MixUnlearnError
from mixunlearn.metrics.table import RELATIVE
from mixunlearn.plain import unwrapped

log = logging.getLogger(__name__)

Row: TypeAlias = Mapping[str, Any]

RUN_ID = "mlflow_run_id"
# Always present and always of this type, so that tables of different studies can be joined.
FIXED = {
    "study": pa.string(),
    "trial": pa.int64(),
    "trial_id": pa.string(),
    "method": pa.string(),
    "state": pa.string(),
    "epochs": pa.int64(),
    "seconds": pa.float64(),
    RUN_ID: pa.string(),
    "error": pa.string(),
}
LAST = 2  # this many of the fixed columns are at the end
PARAMS = "params/"


def write_trials(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write `rows` to `path` so that a reader sees the old table or the new one, never a part.

    Args:
        rows: one mapping for each trial, as `Study.rows` returns them.
        path: the file; its folder is created if missing.

    Raises:
        MixUnlearnError: a metric is not a number.
        OSError: the file cannot be written; an old file stays.
    """
    table = trials_table(rows)
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def trials_table(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Return trials as a table, one row each.

    Columns: study, trial, trial_id, method, state, epochs, seconds, then `params/*`, metrics,
    `gap/*` and `z/*`, each sorted, then mlflow_run_id and error. Beyond these fixed ones a column
    exists if any row has it. Missing values and NaN become null; a parameter
    that is not of one type in all rows becomes text.

    Raises:
        MixUnlearnError: a metric is not a number.
    """
    return pa.table({name: _column(name, rows) for name in _names(rows)})


def read_trials(path: Path) -> list[dict[str, object]]:
    """Return the rows of a `trials.parquet`; every row has every column, null as None.

    Raises:
        MissingError: there is no such file.
    """
    if not path.is_file():
        raise MissingError(f"{path} does not exist: `mixunlearn sweep EXPERIMENT` writes it")
    with pq.ParquetFile(path) as file:
        rows: list[dict[str, object]] = file.read().to_pylist()
    return rows


def count_trials(path: Path) -> int:
    """Return the number of trials in a `trials.parquet`; 0 if it is missing or damaged."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError):
        return 0


def known_run_ids(path: Path) -> dict[int, str]:
    """Return the ids of the MLflow runs in a `trials.parquet`, by trial.

    Empty if the table is damaged: it is derived data and will be written again.
    """
    try:
        rows = read_trials(path) if path.exists() else []
        return {int(str(row["trial"])): str(row[RUN_ID]) for row in rows if row[RUN_ID]}
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s is damaged (%s); it will be written again", path, one_line(error))
        return {}


def ranked(rows: Sequence[Row], objective: str) -> list[Row]:
    """Return the trials that did not fail, best first.

    A trial that was stopped early counts as a configuration with fewer epochs.
    """
    usable = [row for row in rows if row["state"] != "failed" and row.get(objective) is not None]
    # The number decides between equal values: every run of the report ranks alike.
    return sorted(usable, key=lambda row: (row[objective], row["trial"]))


def hyperparameters(row: Row) -> dict[str, Any]:
    """Return a row's hyperparameters."""
    return {name.removeprefix(PARAMS): row[name] for name in row if name.startswith(PARAMS)}


def _names(rows: Sequence[Mapping[str, object]]) -> list[str]:
    found = {name for row in rows for name in row} - FIXED.keys()
    first, last = list(FIXED)[:-LAST], list(FIXED)[-LAST:]
    return [*first, *sorted(found, key=lambda name: (_group(name), name)), *last]


def _group(name: str) -> int:
    """Return the place of a column's group: hyperparameters, metrics, gaps, z values."""
    # 1 is left for metrics, which have no prefix of their own.
    places = {PARAMS: 0} | {prefix: place for place, prefix in enumerate(RELATIVE, start=2)}
    return places.get(name.partition("/")[0] + "/", 1)


def _column(name: str, rows: Sequence[Mapping[str, object]]) -> pa.Array:
    values = [_cell(row.get(name)) for row in rows]
    if name.startswith(PARAMS):
        return _parameter(values)
    try:
        if name not in FIXED:
            values = [None if value is None else _number(value) for value in values]
        return pa.array(values, type=FIXED.get(name, pa.float64()))
    except (TypeError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise MixUnlearnError(f"the column {name!r} of the trials is invalid: {error}") from error


def _cell(value: object) -> object:
    """Return `value` without NumPy's type and with NaN as None.

    In contrast to `plain`, infinity stays, because Parquet can hold it. Lists stay as well; they
    become text later.
    """
    found = unwrapped(value)
    return None if isinstance(found, float) and math.isnan(found) else found


def _number(value: object) -> float:
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _parameter(values: list[object]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    try:
        if kinds <= {bool} or kinds <= {str} or kinds == {int}:
            return pa.array(values, type=None if kinds else pa.string())
        if kinds <= {int, float}:  # 1 and 0.5 are one quantity, typed differently
            return pa.array(values, type=pa.float64())
    except (OverflowError, pa.ArrowInvalid):  # an integer beyond 64 bits
        pass
    return pa.array([None if value is None else str(value) for value in values], type=pa.string())
