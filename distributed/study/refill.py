"""Makes a lost record anew from the trials table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from distributed.runtime.text import one_line
from distributed.study.study import Study
from distributed.study.trials_table import FIXED, PARAMS, hyperparameters, read_trials
from mixunlearn.errors import CorruptError, MixUnlearnError
from search_spaces import Choice, Int
from search_spaces.space import AnyParameter, Value


def refill(study: Study, table: Path) -> int:
    """Record the trials of a table that the record does not have; return how many they are.

    Args:
        study: the study, whose record is empty or was filled only in part.
        table: its `trials.parquet`.

    Raises:
        MissingError: there is no table.
        CorruptError: the table cannot be read.
        MixUnlearnError: a trial belongs to another study.
    """
    try:
        rows = read_trials(table)
    except (pa.ArrowException, OSError) as error:
        remedy = "nothing of the record is left; remove both files to start again"
        raise CorruptError(f"{table} is damaged ({one_line(error)}): {remedy}") from error
    known = {row["trial"] for row in study.rows()}
    lost = sorted((row for row in rows if row["trial"] not in known), key=_number)
    for row in lost:
        try:
            study.adopt(row, _values(study, row), _metrics(row))
        except ValueError as error:
            what = f"trial {row['trial']} of {table} is not from the study {study.name}"
            raise MixUnlearnError(f"{what}: {one_line(error)}; remove that file") from error
    return len(lost)


def _number(row: Mapping[str, Any]) -> int:
    return int(row["trial"])


def _values(study: Study, row: Mapping[str, Any]) -> dict[str, Value]:
    return {
        name: typed(study.space[name], value)
        for name, value in hyperparameters(row).items()
        if name in study.space and value is not None
    }


def typed(parameter: AnyParameter, value: Any) -> Value:  # noqa: ANN401 - a cell of the table
    """Return a hyperparameter with the type of its search space; a table has one type a column."""
    if isinstance(parameter, Choice):
        equal = (option for option in parameter.options if str(option) == str(value))
        found: Value = next(equal, value)
        return found
    return int(value) if isinstance(parameter, Int) else float(value)


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in row.items()
        if name not in FIXED and not name.startswith(PARAMS) and value is not None
    }
