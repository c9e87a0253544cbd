"""Deletion requests: files that list the training images to be forgotten.

Parquet and NumPy files are known by their first bytes or their suffix (`.parquet`, `.npy`), JSON by
the suffix `.json`, or `.jsonl` with one value per line. All else is text: one id per line, or CSV.
"""

import csv
import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mixunlearn.data.names import typed_path
from mixunlearn.data.pixels import is_text
from mixunlearn.errors import InputError
from mixunlearn.regular import MIB, read_regular

KEY = "task.ids"
LARGEST = 256 * MIB  # bytes: all ids of the largest data sets, as text
NUMBERS = ("id", "row")  # headers of numbers of rows
FILES = ("path", "file")  # headers of names of files
PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ")  # gzip, zip, bzip2, xz
OWN = "key:"  # before the name of a column of the source that would mean something else
SHOWN = 8  # columns listed in an error message
DELIMITERS = ",;\t"
NO_DELIMITER = "\x1f"  # each line is one id, whatever is in it
# No underscores and no digits of other scripts, which Python would take; they fit into 64 bits.
WHOLE = r"^[+-]?[0-9]{1,18}$"


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Ids as a user listed them: in their order, and none is missing.

    Attributes:
        ids: int64 if they are numbers of rows, text if they are names.
        column: of numbers, their header, empty without one; of names, which column of the source
            holds them; "path" for names of files.
    """

    ids: pa.Array
    column: str = ""


def read_request(path: str, known: Collection[str] = ()) -> Listed:
    """Return the ids in a file; they are not looked up.

    Args:
        path: of the file, in one of the module's formats. Of several columns one is used; `_rank`
            says which.
        known: the columns of names that the source has.

    Raises:
        InputError: the file cannot be read, has a row without an id, or holds something else.
    """
    file, content = typed_path(KEY, path), b""
    try:
        content = read_regular(file, LARGEST)
        return _reader(file.suffix.lower(), content)(content, file, known)
    except UnicodeDecodeError as error:
        packed = content.startswith(PACKED)
        remedy = "compressed, unpack it first" if packed else "not a text file"
        raise InputError(KEY, path, f"{remedy}: give one id per line") from error
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or "not a Parquet file"
        remedy = f"cannot be read ({reason}): give a list of ids, or a file of them"
        raise InputError(KEY, path, remedy) from error


def _reader(suffix: str, content: bytes) -> Callable[[bytes, Path, Collection[str]], Listed]:
    if suffix == ".parquet" or content.startswith(b"PAR1"):
        return _of_parquet
    if suffix == ".npy" or content.startswith(b"\x93NUMPY"):
        return _of_numpy
    return _of_json if suffix in (".json", ".jsonl") else _of_text


# Text


def _of_text(content: bytes, file: Path, known: Collection[str]) -> Listed:
    text = content.decode("utf-8-sig")  # spreadsheets on Windows mark the order of the bytes
    start = next((line.strip() for line in text.splitlines() if line.strip()), "")
    delimiter = next((mark for mark in DELIMITERS if mark in start), NO_DELIMITER)
    header = [name.strip(' "') for name in start.split(delimiter)]
    if not any(_rank(name, known) for name in header):
        # Not a header but an id; what looks like a delimiter may be part of a name.
        lines = _lines(text, NO_DELIMITER, file)
        return _of_words([cells[0] for cells in lines.values()], "", list(lines), file, known)
    column = _chosen(header, header, known, file)
    place, lines = header.index(column), _lines(text, delimiter, file)
    del lines[next(iter(lines))]
    _require_full(lines, len(header), place, file)
    return _of_words([cells[place] for cells in lines.values()], column, list(lines), file, known)


def _lines(text: str, delimiter: str, file: Path) -> dict[int, list[str]]:
    """Return the cells of each line that is not empty, by its number from 1."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        reason = f"line {reader.line_num} of {file.name} is not CSV ({error})"
        raise InputError(KEY, str(file), f"{reason}: correct its quotes") from error
    return {number: cells for number, cells in lines if any(cells)}


def _require_full(lines: Mapping[int, Sequence[str]], columns: int, place: int, file: Path) -> None:
    for number, cells in lines.items():
        where = f"line {number} of {file.name} has"
        if len(cells) != columns:
            remedy = f"{where} {len(cells)} cells, the first line {columns}: correct one of them"
            raise InputError(KEY, str(file), remedy)
        if not cells[place]:
            # Not left out: nobody would know of the image that is not forgotten.
            raise InputError(KEY, str(file), f"{where} no id: fill it or drop the line")


def _of_words(
    words: list[str], column: str, lines: Sequence[int], file: Path, known: Collection[str]
) -> Listed:
    """Return the ids in the lines of a text: only their look tells whether they are numbers."""
    ids = pa.array(words, pa.string())
    if not _counts_rows(column):
        return Listed(ids=ids, column=_meant(column, known))
    whole_N = pc.match_substring_regex(ids, WHOLE).to_numpy(zero_copy_only=False)
    if whole_N.all():
        rows = pc.replace_substring_regex(ids, r"^\+", "").cast(pa.int64())
        return Listed(ids=rows, column=column.lower())
    first = int(np.argmin(whole_N))
    # Text after a number is a mistake; text from the first line on can be names.
    names = () if whole_N[0] else known
    return _named(ids, column, names, f"line {lines[first]} of {file.name} is", words[first])


# JSON, NumPy and Parquet


def _of_json(content: bytes, file: Path, known: Collection[str]) -> Listed:
    text = content.decode("utf-8-sig")
    if file.suffix.lower() == ".jsonl":
        lines = filter(str.strip, text.split("\n"))
        text = f"[{','.join(lines)}]"
    try:
        given = json.loads(text, object_pairs_hook=_object) if text.strip() else []
    except (ValueError, RecursionError) as error:
        raise InputError(KEY, str(file), f"not JSON ({error}): correct it") from error
    column = ""
    if isinstance(given, dict):  # of columns
        column = _chosen(list(given), list(given), known, file)
        given = given[column]
    elif isinstance(given, list) and given and all(isinstance(row, dict) for row in given):
        column = _chosen(list(given[0]), list(given[0]), known, file)
        given = [row.get(column) for row in given]
    if not isinstance(given, list):
        raise InputError(KEY, str(file), "holds no list of ids: give one, for example [17, 230]")
    return _of_values(given, column, file, known)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; a key that is there twice would hide what came first."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _of_values(values: list[Any], column: str, file: Path, known: Collection[str]) -> Listed:
    kinds = {type(value) for value in values} - {type(None)}
    if kinds not in ({int}, {str}, set()):
        wrong = [row for row, value in enumerate(values) if type(value) not in (int, type(None))]
        reason = f"row {wrong[0]} of {file.name} is not a whole number"
        raise InputError(KEY, values[wrong[0]], f"{reason}: give whole numbers only, or text only")
    try:
        ids = pa.array(values, pa.string() if str in kinds else pa.int64())
    except OverflowError as error:
        value = max(filter(None, values), key=abs)
        raise InputError(KEY, value, "is no row: it has more than 64 bits") from error
    return _of_array(ids, column, file, known)


def _of_numpy(content: bytes, file: Path, known: Collection[str]) -> Listed:
    try:
        # Not `numpy.load`, which would also take archives. Pickles can run code.
        ids_N = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        remedy = f"not a NumPy file of plain values ({reason}): write it with numpy.save"
        raise InputError(KEY, str(file), remedy) from error
    if ids_N.ndim != 1 or ids_N.dtype.kind not in "iuU":
        found = f"holds {ids_N.dtype} of shape {ids_N.shape}"
        raise InputError(KEY, str(file), f"{found}: give a list of whole numbers, or of text")
    # In this machine's byte order: Arrow takes no other.
    native_N = ids_N.astype(ids_N.dtype.newbyteorder("="), copy=False)
    return _of_array(pa.array(native_N), "", file, known)


def _of_parquet(content: bytes, file: Path, known: Collection[str]) -> Listed:
    with pq.ParquetFile(pa.BufferReader(content)) as opened:
        schema = opened.schema_arrow
        there = [f"{field.name} ({field.type})" for field in schema]
        column = _chosen(schema.names, there, known, file)
        ids = opened.read(columns=[column])[column].combine_chunks()
    if not is_name(ids.type):
        _refuse_columns(there, known, file)
    return _of_array(ids, column, file, known)


def is_name(kind: pa.DataType) -> bool:
    """Return whether a column of this type can name rows: by whole numbers, or by text."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_integer(kind)) or is_text(kind)


def _of_array(ids: pa.Array, column: str, file: Path, known: Collection[str]) -> Listed:
    """Return ids whose type tells whether they are numbers."""
    if not len(ids):
        return Listed(ids=ids)
    if ids.null_count:
        row = int(np.flatnonzero(ids.is_null())[0])
        # Not left out: nobody would know of the image that is not forgotten.
        raise InputError(KEY, str(file), f"row {row} has no id: fill it or drop the row")
    if not _counts_rows(column):
        return Listed(ids=ids.cast(pa.string()), column=_meant(column, known))
    if pa.types.is_integer(ids.type):
        # A number above the largest one becomes the largest one: no row either.
        largest = pa.scalar(np.iinfo(np.int64).max, ids.type) if ids.type == pa.uint64() else None
        fits = ids if largest is None else pc.min_element_wise(ids, largest)
        return Listed(ids=fits.cast(pa.int64()), column=column.lower())
    ids = ids.cast(pa.string())
    return _named(ids, column, known, f"row 0 of {file.name} is text,", ids[0].as_py())


# What is listed


def _rank(name: str, known: Collection[str]) -> int:
    """Return how surely a column of a list is that of the ids; 0 if it is another one."""
    if name.startswith(OWN):
        return 4
    if name.lower() in NUMBERS:
        return 3
    return 2 if name in known else int(name.lower() in FILES)


def _chosen(names: Sequence[str], there: Sequence[str], known: Collection[str], file: Path) -> str:
    """Return the column of the ids; `there` describes all columns."""
    ranks = [_rank(name, known) for name in names]
    best = max(ranks, default=0)
    # Files can have two columns of the same name; then it is unclear which one is meant.
    if not best or ranks.count(best) > 1:
        _refuse_columns(there, known, file)
    return names[ranks.index(best)]


def _refuse_columns(there: Sequence[str], known: Collection[str], file: Path) -> NoReturn:
    others = f", or of names ({_shown(known)})" if known else ""
    remedy = f"needs one column 'id' of whole numbers{others}; there are {_shown(there)}"
    raise InputError(KEY, str(file), remedy)


def _shown(names: Collection[str]) -> str:
    return ", ".join([*names][:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _counts_rows(column: str) -> bool:
    return column.lower() in ("", *NUMBERS)


def _meant(column: str, known: Collection[str]) -> str:
    """Return the column of the source that a header means."""
    if column.startswith(OWN):
        return column.removeprefix(OWN)
    return column if column in known else FILES[0]


def _named(ids: pa.Array, column: str, known: Collection[str], where: str, value: object) -> Listed:
    """Return ids that are text under the header of numbers, or under none."""
    meant = column or FILES[0]
    if meant in known:
        return Listed(ids=ids, column=meant)
    more = f", after the name of their column ({_shown(known)})" if known else ""
    reason = f"{where} not a whole number: give one id per line{more}"
    raise InputError(KEY, value, reason)
