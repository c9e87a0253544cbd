"""Deletion requests: files that list the training images to be forgotten."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mixunlearn.data.names import typed_path
from mixunlearn.errors import InputError

KEY, COLUMN = "task.ids", "id"


def read_request(path: str) -> list[int]:
    """Return the ids in a file, in their order and not checked.

    Args:
        path: a text file with one whole number per line, or a Parquet file (`.parquet`) with
            whole numbers in its column `id`.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    file = typed_path(KEY, path)
    try:
        return _of_parquet(file) if file.suffix == ".parquet" else _of_text(file)
    except UnicodeDecodeError as error:
        raise InputError(KEY, path, "not a text file: give one id per line") from error
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or "not a Parquet file"
        remedy = f"cannot be read ({reason}): give a list of ids, or a file of them"
        raise InputError(KEY, path, remedy) from error


def _of_text(file: Path) -> list[int]:
    lines = enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
    return [_number(line, f"line {number} of {file.name}") for number, line in lines if line]


def _number(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        reason = f"{where} is not a whole number: give one id per line"
        raise InputError(KEY, text, reason) from error


def _of_parquet(file: Path) -> list[int]:
    table = pq.read_table(file)
    if COLUMN not in table.column_names or not pa.types.is_integer(table[COLUMN].type):
        there = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
        remedy = f"has no column {COLUMN!r} of whole numbers; there are {there}"
        raise InputError(KEY, str(file), remedy)
    return table[COLUMN].drop_null().to_pylist()  # type: ignore[no-any-return]
