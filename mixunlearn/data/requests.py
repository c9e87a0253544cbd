"""Deletion requests: files that list the training images to be forgotten."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mixunlearn.data.names import typed_path
from mixunlearn.errors import InputError
from mixunlearn.regular import MIB, read_regular

KEY, COLUMN = "task.ids", "id"
LARGEST = 256 * MIB  # bytes: all ids of the largest data sets, as text
# No underscores and no digits of other scripts, which Python would take; at most 64 bits.
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")


def read_request(path: str) -> list[int]:
    """Return the ids in a file, in their order and not checked.

    Args:
        path: a text file with one whole number per line, or a Parquet file (`.parquet`) with
            whole numbers in its column `id`. The first line of a text file may be `id`.

    Raises:
        InputError: the file cannot be read, has a row without an id, or holds something else.
    """
    file = typed_path(KEY, path)
    try:
        content = read_regular(file, LARGEST)
        return (_of_parquet if file.suffix.lower() == ".parquet" else _of_text)(content, file)
    except UnicodeDecodeError as error:
        raise InputError(KEY, path, "not a text file: give one id per line") from error
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or "not a Parquet file"
        remedy = f"cannot be read ({reason}): give a list of ids, or a file of them"
        raise InputError(KEY, path, remedy) from error


def _of_text(content: bytes, file: Path) -> list[int]:
    # With a mark of the byte order, as spreadsheets on Windows write it.
    lines = enumerate(content.decode("utf-8-sig").splitlines(), start=1)
    given = [(number, line.strip()) for number, line in lines if line.strip()]
    if given and given[0][1].lower() == COLUMN:
        del given[0]
    return [_number(text, f"line {number} of {file.name}") for number, text in given]


def _number(text: str, where: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise InputError(KEY, text, f"{where} is not a whole number: give one id per line")
    return int(text)


def _of_parquet(content: bytes, file: Path) -> list[int]:
    with pq.ParquetFile(pa.BufferReader(content)) as opened:
        schema = opened.schema_arrow
        # Parquet allows two columns of the same name; then it is unclear which one is meant.
        once = schema.names.count(COLUMN) == 1
        if not once or not pa.types.is_integer(schema.field(COLUMN).type):
            there = ", ".join(f"{field.name} ({field.type})" for field in schema)
            remedy = f"needs one column {COLUMN!r} of whole numbers; there are {there}"
            raise InputError(KEY, str(file), remedy)
        ids = opened.read(columns=[COLUMN])[COLUMN].combine_chunks()
    if ids.null_count:
        row = int(np.flatnonzero(ids.is_null())[0])
        # Not left out: nobody would know of the image that is not forgotten.
        raise InputError(KEY, str(file), f"row {row} has no id: fill it or drop the row")
    return ids.to_pylist()  # type: ignore[no-any-return]
