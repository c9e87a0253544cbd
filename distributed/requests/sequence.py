"""Requests one after another: each is handled once, from the model that the last one released."""

import csv
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import numpy as np
import pyarrow.parquet

from distributed.requests.forget import copies
from distributed.requests.run import WORK, Format, Output, locked, remove_unfinished
from distributed.requests.secret import forget_digest
from distributed.runtime.text import one_line
from mixunlearn.atomic import replacing
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import Rows
from mixunlearn.data.names import typed_path
from mixunlearn.data.requests import DELIMITERS
from mixunlearn.errors import InputError
from mixunlearn.regular import require_regular
from mixunlearn.tasks.written import check_task
from report.request_sequence import sequence_page

KEY, COLUMN = "--requests", "request"
PAGE = "README.md"  # the page over all requests
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One request of a sequence.

    Args:
        name: of the request; its folder has the same name.
        rows: images to forget: those asked for by it, and by all requests before it.
        new: number of images that no request before it has asked for.
        weights: of the model that the request before it has released.
        output: where its results go.
    """

    name: str
    rows: tuple[int, ...]
    new: int
    weights: str
    output: Output


Handle = Callable[[Step], Mapping[str, Any]]


def make_steps(
    lists: Mapping[str, Path], dataset: Dataset, weights: str, folder: Path, form: Format
) -> list[Step]:
    """Return the requests in order; all lists are read before anything runs.

    Args:
        lists: name of each request -> file of ids or folder of images, in order.
        dataset: the images.
        weights: of the model before the first request.
        folder: it gets a folder for each request.
        form: format of the weights.

    Raises:
        InputError: a list cannot be read, that of a handled request is gone, or the folder holds
            something else.
    """
    steps = list(_steps(lists, dataset, weights, folder, form))
    _require_all(steps, folder)
    return steps


def handle_all(
    steps: Sequence[Step], dataset: Dataset, folder: Path, home: Path, handle: Handle
) -> list[dict[str, Any]]:
    """Handle the requests that are not handled yet, in order; return the records of all.

    Args:
        steps: the requests.
        dataset: the images.
        folder: it gets a page over all requests.
        home: where records are kept.
        handle: carries one request out and returns its record; what is finished, it returns only.

    Raises:
        InputError: data, model or list of a handled request were changed.
        MixUnlearnError: another command is writing in the folder.
    """
    records = list[dict[str, Any]]()
    with locked(folder):
        for step in steps:
            _require_same(step, records, dataset, home)
            records.append(dict(handle(step)))
            # After each: a stop leaves a page over what is finished.
            with replacing(folder / PAGE) as temporary:
                new = [each.new for each in steps[: len(records)]]
                temporary.write_text(sequence_page(records, new))
        remove_unfinished(folder)
    return records


def _steps(
    lists: Mapping[str, Path], dataset: Dataset, weights: str, folder: Path, form: Format
) -> Iterator[Step]:
    so_far = np.array([], np.int64)
    for name, path in lists.items():
        rows = _rows(name, path, dataset)
        together = np.union1d(so_far, rows)
        output = Output(folder=folder / name, format=form)
        yield Step(
            name=name,
            rows=tuple(together.tolist()),
            new=len(together) - len(so_far),
            weights=weights,
            output=output,
        )
        so_far, weights = together, str(output.weights)


def _rows(name: str, path: Path, dataset: Dataset) -> Rows:
    """Return the images that a request asks for."""
    try:
        asked = copies(path, dataset) if path.is_dir() else str(path)
        task = check_task({"kind": "ids", "ids": asked}, dataset)
    except InputError as error:
        # A part of a table lies in a file that the user has never seen.
        raise InputError(f"{KEY}, request {name}", error.value, error.remedy) from error
    return np.array(task.asked)


def _require_all(steps: Sequence[Step], folder: Path) -> None:
    """Check that no list of a handled request is gone: its images would be trained on again.

    Raises:
        InputError: one is gone, or a new request sorts before a handled one.
    """
    handled = {path.parent.name for path in folder.glob("*/record.json")}
    names = [step.name for step in steps]
    if gone := sorted(handled - {*names}):
        remedy = "was handled, but its list is gone: its images would be learned again; restore it"
        raise InputError(KEY, gone[0], remedy)
    first_new = next((place for place, name in enumerate(names) if name not in handled), len(names))
    for name in names[first_new:]:
        if name in handled:
            remedy = f"comes before {name}, which was handled already; new requests go last"
            raise InputError(KEY, names[first_new], remedy)
    _require_own(folder, names, handled)


def _require_own(folder: Path, names: Sequence[str], handled: Collection[str]) -> None:
    """Check that a folder holds nothing but results: the page would replace another README.

    Raises:
        InputError: it holds something else.
    """
    known = {*names, *([PAGE] if handled else [])}
    others = [
        path.name
        for path in sorted(folder.glob("[!.]*"))
        # A request that was begun, and whose list was given another name, does no harm.
        if path.name not in known and not (path / WORK).is_dir()
    ]
    if others:
        remedy = f"holds something else ({others[0]}); choose another folder"
        raise InputError("--out", str(folder), remedy)


def _require_same(
    step: Step, before: Sequence[Mapping[str, Any]], dataset: Dataset, home: Path
) -> None:
    """Check that a handled request has the same list, data and model as then.

    Raises:
        InputError: it has not.
    """
    try:
        record = json.loads(step.output.record.read_text())
        data, forget, model = (record[part] for part in ("data", "forget", "model"))
        same = {
            "the data have": data["digest"] == dataset.digest,
            "its list, or one before it, has": forget["digest"] == forget_digest(home, step.rows),
            "the model before it has": not before
            or model["before"] == before[-1]["model"]["after"],
        }
    except FileNotFoundError:
        return
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        remedy = "is damaged; copy the record with this name from the home's folder records"
        raise InputError(KEY, str(step.output.record), remedy) from error
    for what, holds in same.items():
        if not holds:
            remedy = (
                f"was handled, and {what} changed since, or --home is another; begin a new --out"
            )
            raise InputError(KEY, step.name, remedy)


# --- lists ------------------------------------------------------------------------------------


@contextmanager
def request_lists(written: str) -> Iterator[dict[str, Path]]:
    """Give the lists of a folder or a table, by the names of the requests, in order.

    A folder holds one file or one folder of images for each request, and their names are its
    order. A table (CSV or Parquet) has a column `request` beside that of the ids; its requests come
    in the order of their first rows.

    Raises:
        InputError: there is none, or a name cannot be that of a folder.
    """
    path = typed_path(KEY, written)
    if path.is_dir():
        found = _files(path)
        _require_names(found, path)
        yield found
        return
    with TemporaryDirectory() as folder:
        found = _parts(path, Path(folder))
        _require_names(found, path)
        yield found


def _files(folder: Path) -> dict[str, Path]:
    """Return the lists of a folder by the names of their requests, in order."""
    found = dict[str, Path]()
    try:
        listed = sorted(each for each in folder.iterdir() if not each.name.startswith("."))
    except OSError as error:
        raise InputError(KEY, str(folder), f"cannot be read ({one_line(error)})") from error
    for each in listed:
        name = each.name if each.is_dir() else each.stem
        if name in found:  # one of them would never be forgotten
            remedy = f"two lists of one name ({found[name].name}, {each.name}); rename one"
            raise InputError(KEY, name, remedy)
        found[name] = each
    return found


def _parts(path: Path, folder: Path) -> dict[str, Path]:
    """Write the rows of each request to a file of its own."""
    heading, rows = _table(path)
    if COLUMN not in heading:
        remedy = f"needs a column '{COLUMN}' beside that of the ids; there are {', '.join(heading)}"
        raise InputError(KEY, str(path), remedy)
    place = heading.index(COLUMN)
    parts: dict[str, list[list[str]]] = {}
    for number, row in enumerate(rows):
        others = row[:place] + row[place + 1 :]
        if not any(cell.strip() for cell in others):
            # In a file of its own it would be an empty line, which does not count.
            raise InputError(KEY, str(path), f"row {number} has no id: fill it or drop the row")
        parts.setdefault(row[place].strip(), []).append(others)
    _require_names(parts, path)
    found = {}
    for name, own in parts.items():
        found[name] = folder / f"{name}.csv"
        with found[name].open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([heading[:place] + heading[place + 1 :], *own])
    return found


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the heading and the rows of a table, as text."""
    try:
        require_regular(path)  # a pipe would be read for ever
        if path.suffix.lower() == ".parquet":
            table = pyarrow.parquet.read_table(path)
            columns = [
                # An empty text where there is no value: it is refused as a name, and as an id.
                ["" if value is None else str(value) for value in column.to_pylist()]
                for column in table.columns
            ]
            return list(table.schema.names), [list(row) for row in zip(*columns, strict=True)]
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, delimiter=_delimiter(file))
            heading, *rows = [row for row in lines if any(row)] or [[]]
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException, csv.Error) as error:
        raise InputError(KEY, str(path), f"cannot be read ({one_line(error)})") from error
    for number, row in enumerate(rows):
        if len(row) != len(heading):
            remedy = f"row {number} has {len(row)} cells, the heading {len(heading)}; correct it"
            raise InputError(KEY, str(path), remedy)
    return heading, rows


def _delimiter(file: TextIO) -> str:
    """Return what separates the columns; the file is then at its start again."""
    first = next(filter(str.strip, file), "")
    file.seek(0)
    return next((mark for mark in DELIMITERS if mark in first), DELIMITERS[0])


def _require_names(found: Mapping[str, object], path: Path) -> None:
    if not found:
        raise InputError(KEY, str(path), "holds no request: give a file of ids for each")
    for name in found:
        if not NAME.fullmatch(name) or name == PAGE:
            remedy = "must be letters, digits and . _ - so that a folder can have this name"
            raise InputError("name of a request", name, remedy)
