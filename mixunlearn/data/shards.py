"""The Parquet files that make up one part of a data set."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from mixunlearn.data.addresses import Named, Place, find, unanswered
from mixunlearn.data.columns import Columns, choose
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.regular import require_regular


@dataclass(frozen=True, kw_only=True)
class Shard(Place):
    """One Parquet file of a part, with the facts in its footer.

    Args:
        rows: number of rows.
        names: class names in the Hugging Face metadata; `None` if there are none.
    """

    rows: int
    names: tuple[str, ...] | None


def open_part(key: str, text: Named, columns: Columns) -> list[Shard]:
    """Return the files that `text` names, in sorted order; see `find`.

    Args:
        key: the setting that names them, for error messages.
        text: the paths, patterns or addresses.
        columns: that each file must have.

    Raises:
        InputError: a file does not exist, is not a Parquet file or lacks a column, or there are no
            rows.
        MixUnlearnError: an address does not answer.
    """
    shards = [_open_shard(place, columns) for place in find(key, text)]
    if not sum(shard.rows for shard in shards):
        raise InputError(key, text, "holds no rows: give a file with images")
    return shards


def columns_of(key: str, text: Named, image: str | None, label: str | None) -> Columns:
    """Return the columns of images and labels of a part, chosen by its first file.

    Args:
        key: the setting that names the files, for error messages.
        text: the paths, patterns or addresses.
        image: the column that the user gave, if any.
        label: the same for labels.

    Raises:
        InputError: it is unclear which column is meant, or as for `open_part`.
        MixUnlearnError: an address does not answer.
    """
    if image and label:
        return Columns(image=image, label=label)
    with opened(find(key, text)[0]) as file:
        return choose(file.schema_arrow.names, image, label)


@contextmanager
def opened(place: Place) -> Iterator[pq.ParquetFile]:
    """Open one Parquet file; an error while reading it becomes an `InputError` about the file."""
    try:
        if place.filesystem is None:
            require_regular(place.path)
        with pq.ParquetFile(str(place.path), filesystem=place.filesystem) as file:
            yield file
    except FileNotFoundError as error:
        raise InputError(place.key, str(place.path), "no such file: correct the path") from error
    except MemoryError:  # Arrow's own is an ArrowException as well
        raise
    except (pa.ArrowException, OSError) as error:
        if place.filesystem is not None and not isinstance(error, pa.ArrowInvalid):
            raise unanswered(place.key, str(place.path), error) from None
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        remedy = "give a valid Parquet file"
        raise InputError(
            place.key, str(place.path), f"cannot be read ({reason}): {remedy}"
        ) from error


def _open_shard(place: Place, columns: Columns) -> Shard:
    with opened(place) as file:
        known: list[str] = file.schema_arrow.names
        for option, column in (("data.image", columns.image), ("data.label", columns.label)):
            # Parquet allows two columns of the same name; then it is unclear which one is meant.
            if known.count(column) != 1:
                remedy = f"no such column in {place.path}; {known_names(column, known)}"
                raise InputError(option, column, remedy)
        names = _class_names(file.schema_arrow.metadata, columns.label)
        return Shard(**vars(place), rows=file.metadata.num_rows, names=names)


def _class_names(metadata: dict[bytes, bytes] | None, label: str) -> tuple[str, ...] | None:
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
        return tuple(map(str, names)) if isinstance(names, list) else None
    # Not written by Hugging Face's library, or the label is not a ClassLabel.
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
