"""The Parquet files that make up one part of a data set."""

import glob
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mixunlearn.data.names import known_names, typed_path
from mixunlearn.errors import InputError
from mixunlearn.regular import require_regular


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One Parquet file of a part, with the facts in its footer.

    Args:
        key: the setting that names the file, for error messages.
        path: of the file.
        rows: number of rows.
        names: class names in the Hugging Face metadata; `None` if there are none.
    """

    key: str
    path: Path
    rows: int
    names: tuple[str, ...] | None


def open_part(key: str, text: str, image: str, label: str) -> list[Shard]:
    """Return the files that `text` names, a path or a glob, in sorted order.

    Args:
        key: the setting that names them, for error messages.
        text: the path or glob.
        image: column that each file must have.
        label: column that each file must have.

    Raises:
        InputError: a file does not exist, is not a Parquet file or lacks a column, or there are no
            rows.
    """
    shards = [_open_shard(key, path, image, label) for path in _find(key, text)]
    if not sum(shard.rows for shard in shards):
        raise InputError(key, text, "holds no rows: give a file with images")
    return shards


@contextmanager
def opened(key: str, path: Path) -> Iterator[pq.ParquetFile]:
    """Open one Parquet file; an error while reading it becomes an `InputError` about the file."""
    try:
        require_regular(path)
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError as error:
        raise InputError(key, str(path), "no such file: correct the path") from error
    except MemoryError:  # Arrow's own is an ArrowException as well
        raise
    except (pa.ArrowException, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        remedy = "give a valid Parquet file"
        raise InputError(key, str(path), f"cannot be read ({reason}): {remedy}") from error


def _find(key: str, text: str) -> list[Path]:
    path = typed_path(key, text)
    if path.is_dir():
        raise InputError(key, text, f"is a folder: name its files, for example {path}/*.parquet")
    # A file that exists is meant literally, even if its name contains * or [.
    if path.exists() or not glob.has_magic(text):
        return [path]
    # glob.glob, because Path.glob does not accept absolute patterns.
    found = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207
    if not found:
        raise InputError(key, text, f"no file matches (from {Path.cwd()}): correct the pattern")
    return found


def _open_shard(key: str, path: Path, image: str, label: str) -> Shard:
    with opened(key, path) as file:
        columns: list[str] = file.schema_arrow.names
        for option, column in (("data.image", image), ("data.label", label)):
            # Parquet allows two columns of the same name; then it is unclear which one is meant.
            if columns.count(column) != 1:
                raise InputError(
                    option, column, f"no such column in {path}; {known_names(column, columns)}"
                )
        names = _class_names(file.schema_arrow.metadata, label)
        return Shard(key=key, path=path, rows=file.metadata.num_rows, names=names)


def _class_names(metadata: dict[bytes, bytes] | None, label: str) -> tuple[str, ...] | None:
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
        return tuple(map(str, names)) if isinstance(names, list) else None
    # Not written by Hugging Face's library, or the label is not a ClassLabel.
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
