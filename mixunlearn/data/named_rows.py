"""Which training images a list means: numbers and names of rows become rows.

Shapes: N training images, K ids in a list.
"""

import difflib
from bisect import bisect
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import Rows
from mixunlearn.data.names import known_names
from mixunlearn.data.requests import KEY, OWN, Listed
from mixunlearn.errors import InputError
from mixunlearn.wording import counted

COMPARED = 100  # names among which the nearest one is searched

RowNames = Mapping[str, Callable[[], pa.Array]]


def row_names(dataset: Dataset) -> RowNames:
    """Return what the source of a data set calls its training rows; empty if nothing."""
    return dataset.row_names() if dataset.row_names else {}


def find_rows(listed: Listed, dataset: Dataset, names: RowNames) -> Rows:
    """Return the sorted training rows that a list means.

    A name that several rows have, such as that of a person in a column of a table, means all of
    them.

    Args:
        listed: numbers or names, at least one.
        dataset: the labelled images.
        names: what `row_names` returns for it.

    Raises:
        InputError: an id is unknown or listed twice, or it is unclear what the numbers mean.
    """
    if pa.types.is_integer(listed.ids.type):
        ids_K = listed.ids.to_numpy()
        _require_training(ids_K, dataset)
        _refuse_doubled(listed.ids)
        if listed.column == "id" and "id" in names:
            _require_clear(names["id"]())
        return np.sort(ids_K)
    if not names:
        raise InputError(KEY, listed.column, "the source's images have no names: list their rows")
    if listed.column not in names:
        remedy = f"the source has no such column; {known_names(listed.column, names)}"
        raise InputError(KEY, listed.column, remedy)
    names_N = names[listed.column]()
    unknown = listed.ids.filter(pc.invert(pc.is_in(listed.ids, names_N)))
    if len(unknown):
        name = unknown[0].as_py()
        remedy = f"no training image has this {listed.column}{_others(len(unknown) - 1)}"
        raise InputError(KEY, name, f"{remedy}; {_nearest(name, names_N)}")
    _refuse_doubled(listed.ids)
    return np.flatnonzero(pc.is_in(names_N, listed.ids).to_numpy(zero_copy_only=False))


def _require_training(ids_K: NDArray[np.int64], dataset: Dataset) -> None:
    unknown = ids_K[(ids_K < 0) | (ids_K >= dataset.n_train)]
    if len(unknown):
        there = f"{_others(len(unknown) - 1)}; they are the rows 0..{dataset.n_train - 1}"
        if 0 <= unknown[0] < len(dataset.labels_N):
            there += ", this is a test image"
        raise InputError(KEY, int(unknown[0]), f"no training image has this id{there}")


def _refuse_doubled(ids: pa.Array) -> None:
    counts = ids.value_counts()
    doubled = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(doubled):
        index, times = doubled[0]["values"].as_py(), doubled[0]["counts"].as_py()
        reason = f"is listed {times} times{_others(len(doubled) - 1)}"
        raise InputError(KEY, index, f"{reason}: list each image once")


def _require_clear(names_N: pa.Array) -> None:
    """Check that numbers headed `id` mean the same rows by count and by that column's values."""
    if not names_N.equals(pa.array(np.arange(len(names_N))).cast(pa.string())):
        reason = (
            "the source has a column 'id' as well, and its values are not the numbers of the rows"
        )
        remedy = f"head the list 'row' to count rows, or '{OWN}id' for that column"
        raise InputError(KEY, "id", f"{reason}: {remedy}")


def _others(number: int) -> str:
    return f" (and {counted(number, 'other')})" if number else ""


def _nearest(name: str, names_N: pa.Array) -> str:
    """Return the most similar name, as the end of an error message."""
    # Comparing with all of a large data set takes minutes: with those that end or begin alike.
    names = sorted(names_N.drop_null().to_pylist())
    place = bisect(names, name)
    around = names[max(0, place - COMPARED // 2) : place + COMPARED // 2]
    last = name.rpartition("/")[2]
    alike = names_N.filter(pc.ends_with(names_N, last)).slice(0, COMPARED).to_pylist()
    nearest = difflib.get_close_matches(name, [*alike, *around], n=1, cutoff=0.0)
    return f"did you mean {nearest[0]!r}?" if nearest else "there are none"
