"""The chain of deletion records: each one holds the digest of the one before.

A change, a gap, a record too many or in another place shows. Whoever may write the folder can
write the whole chain anew; only the digest of a record that is kept elsewhere shows that.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from distributed.requests.fields import SCHEMA, DeletionRecord, parsed
from distributed.requests.files import NAME, locked, record_file, record_files, records_folder
from distributed.runtime.text import one_line
from mixunlearn.atomic import replacing, sync
from mixunlearn.errors import CorruptError, MixUnlearnError
from mixunlearn.plain import plain
from mixunlearn.regular import MIB, read_regular
from mixunlearn.signature import canonical

__all__ = ["Chain", "DeletionRecord", "append", "read", "read_all", "verify"]

LARGEST = 16 * MIB  # bytes of a record; most have a few thousand
UNKNOWN = "0" * 64  # stands for the digest until it is known


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The records of a home as they are found.

    Args:
        records: those that can be read, in the order of their numbers.
        problems: what is wrong, one line each; empty if the chain holds.
    """

    records: Sequence[DeletionRecord]
    problems: Sequence[str]

    @property
    def head(self) -> str | None:
        """Return the digest of the last record, which stands for the whole chain."""
        return self.records[-1].digest if self.records else None

    def rows(self) -> list[dict[str, Any]]:
        """Return what a list of the records shows of each."""
        return [
            {
                "number": each.number,
                "finished": each.finished,
                "request": each.request,
                "images": each.forget.images,
                "state": each.verdict.state,
            }
            for each in self.records
        ]

    def require(self) -> None:
        """Check that the chain holds.

        Raises:
            CorruptError: it does not.
        """
        if self.problems:
            remedy = "restore the folder from a backup, or move it away to begin a new chain"
            raise CorruptError(f"{self.problems[0]}; {remedy}")


def append(home: Path, content: Mapping[str, Any]) -> DeletionRecord:
    """Add a record to the chain of a home; return it as written.

    If the chain has a record with this token already, that one is returned and nothing is written:
    a request that was cut short after its record was written can simply be repeated.

    Args:
        home: where results are kept.
        content: the fields of a `DeletionRecord`, without number, previous and digest.

    Raises:
        ValueError: a field is missing, unknown or of the wrong type.
        CorruptError: the chain is broken.
        MixUnlearnError: the folder cannot be written.
    """
    first = parsed({**content, "number": 1, "previous": None, "digest": UNKNOWN})
    with locked(home) as folder:
        chain = verify(home)
        chain.require()
        for record in chain.records:
            if record.token == first.token:
                return record
        number = len(chain.records) + 1
        unsigned = first.as_json() | {"number": number, "previous": chain.head}
        record = parsed(unsigned | {"digest": digest_of(unsigned)})
        try:
            with replacing(record_file(home, number)) as temporary:
                temporary.write_text(written(record))
            sync(folder)  # otherwise, a power cut could cut the chain
        except OSError as error:
            raise MixUnlearnError(f"{folder}: {one_line(error)}; free space there") from error
    return record


def read_all(home: Path) -> list[DeletionRecord]:
    """Return the records of a home in order; whether the chain holds, `verify` says.

    Raises:
        CorruptError: a file is not a record.
        MixUnlearnError: the folder cannot be read.
    """
    return [read(path) for path in _files(home).values()]


def read(path: Path) -> DeletionRecord:
    """Return the record in a file after comparing its digest.

    Raises:
        CorruptError: the file is not a record, or was changed.
    """
    try:
        content = json.loads(
            read_regular(path, LARGEST), object_pairs_hook=_once, parse_constant=_refuse
        )
        record = parsed(content)
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptError(f"{path.name}: {_reason(error)}") from error
    # Of the file's own content: what the model would add or round must not hide a change.
    if digest_of(content) != record.digest:
        raise CorruptError(f"{path.name}: its content does not match its digest: it was changed")
    return record


def verify(home: Path, head: str | None = None) -> Chain:
    """Check every record of a home, and their order.

    Args:
        home: where results are kept.
        head: digest of a record that was kept elsewhere; the chain must have this record still.

    Raises:
        MixUnlearnError: the folder cannot be read.
    """
    records: list[DeletionRecord] = []
    problems = _strangers(home)
    for number, path in _files(home).items():
        before = records[-1] if records else None
        try:
            record = read(path)
        except CorruptError as error:
            problems.append(str(error))
            continue
        problems += _misplaced(path, number, record, before)
        records.append(record)
    problems += _gaps([*_files(home)])
    if head is not None and all(record.digest != head for record in records):
        what = "no record has the digest that was kept"
        problems.append(f"{what} ({head}): the chain was cut at its end, or written anew")
    return Chain(records=records, problems=problems)


def digest_of(content: Mapping[str, Any]) -> str:
    """Return the digest of a record: SHA-256 of the canonical JSON of all but its digest."""
    signed = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(canonical(plain(signed)).encode()).hexdigest()


def written(record: DeletionRecord) -> str:
    """Return the text of a record's file."""
    return json.dumps(record.as_json(), indent=1, ensure_ascii=False) + "\n"


def _misplaced(
    path: Path, number: int, record: DeletionRecord, before: DeletionRecord | None
) -> list[str]:
    """Return what is wrong with the place of a record."""
    if record.number != number:
        return [f"{path.name}: holds record {record.number}: it was renamed or copied"]
    if before is None or before.number != number - 1:
        # The record before is missing or broken, which is a problem of its own.
        stands = number > 1 or record.previous is None
        return [] if stands else [f"{path.name}: is the first, but names one before it"]
    if record.previous != before.digest:
        return [f"{path.name}: does not follow record {before.number}, which was replaced"]
    return []


def _gaps(numbers: Sequence[int]) -> list[str]:
    known = set(numbers)
    absent = [number for number in range(1, max(known, default=0)) if number not in known]
    return [f"record {number} is missing" for number in absent]


def _files(home: Path) -> dict[int, Path]:
    try:
        return record_files(home)
    except OSError as error:
        what = f"{records_folder(home)} cannot be read: {one_line(error)}"
        raise MixUnlearnError(f"{what}; change its permissions") from error


def _strangers(home: Path) -> list[str]:
    """Return a problem for each JSON file that has no name of a record."""
    names = sorted(path.name for path in records_folder(home).glob("[!.]*.json"))
    return [f"{name}: is no record of the chain" for name in names if not _is_name(name)]


def _is_name(name: str) -> bool:
    match = NAME.fullmatch(name)
    return match is not None and name == f"{int(match[1]):06d}.json"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a mapping of JSON; a key that is there twice would show people another value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"is no record of schema {SCHEMA}: {place}: {first['msg']}"
    if isinstance(error, OSError):
        return f"cannot be read: {one_line(error)}"
    return f"is broken: {one_line(error)}"
