"""Records on their way to MLflow: in pending runs while it answers, else on disk.

Files and folders to upload wait in memory only. What is read from disk names no file: otherwise a
line that somebody has added to the spool could send any file of this machine to MLflow.
"""

import contextlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, with_config

from distributed.runtime.text import one_line, redact
from distributed.tracking.run_buffer import Record, Run, RunBuffer, Upload
from mixunlearn.errors import MixUnlearnError

CHUNK_BYTES = 2**20  # read in one piece, so that the records of a long outage do not fill memory
NEAR = 0.8  # share of the limit at which the user is warned
MIB = 2**20

# Strict: a line of another version must not become a record with other content.
_RECORD = TypeAdapter(with_config(ConfigDict(extra="forbid", strict=True))(Record))


def to_line(record: Record) -> bytes:
    """Return a record as a line of JSON, without passwords and without empty fields."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    plain = {name: _redacted(v) for name, v in values.items() if v not in (None, "", {}, [])}
    return json.dumps(plain, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> Record:
    """Return the record in a line.

    Raises:
        ValueError: the line is not a record.
    """
    return _RECORD.validate_json(line)


def _redacted(value: object) -> object:
    if isinstance(value, dict):
        return {name: _redacted(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    return redact(value) if isinstance(value, str) else value


class Spool:
    """A file of records, one on each line: appended at the end, read from the start, then removed.

    One process at a time may use it. The next process gets the records of one that died.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0  # in bytes
        self.unreadable = 0  # lines
        self._read = 0  # bytes from the start

    @property
    def unread(self) -> bool:
        """Whether there are records that were not read yet."""
        return self._read < self.size

    def open(self) -> None:
        """Take over the records of an earlier process, except a line that it did not finish."""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb+") as file:
            # Only the last line can lack its end: the process died while it was written.
            self.size = sum(len(line) for line in file if line.endswith(b"\n"))
            # Otherwise the next record would continue that line, and both would be lost.
            file.truncate(self.size)

    def append(self, records: Sequence[Record], limit: float) -> None:
        """Append records: all or none.

        Raises:
            MixUnlearnError: the file would have more than `limit` bytes.
            OSError: the file cannot be written, for example because the disk is full.
        """
        data = b"".join(map(to_line, records))
        if self.size + len(data) > limit:
            raise MixUnlearnError(f"{self.path} has reached its limit of {limit / MIB:g} MiB")
        try:
            with self.path.open("ab") as file:
                file.write(data)
        except OSError:
            with contextlib.suppress(OSError):
                # A full disk may take a part of the data: half a line would damage the next one.
                os.truncate(self.path, self.size)
            raise
        self.size += len(data)

    def skip(self) -> None:
        """Mark all records in the file as read."""
        self._read = self.size

    def read(self) -> list[Record]:
        """Return the next records; a line that is not a record is counted and skipped.

        Raises:
            OSError: the file cannot be read.
        """
        with self.path.open("rb") as file:
            file.seek(self._read)
            lines = file.readlines(CHUNK_BYTES)
        self._read += sum(map(len, lines))
        if not lines:  # something else has truncated the file
            self.unreadable += 1
            self.skip()
        return [record for line in lines for record in self._understood(line)]

    def _understood(self, line: bytes) -> list[Record]:
        try:
            return [from_line(line)]
        except ValueError:
            self.unreadable += 1
            return []

    def remove(self) -> None:
        """Remove the file. If that fails, the next process finds that MLflow has all records."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.size = self._read = 0


class DeliveryQueue:
    """Puts records into the buffer's pending runs, or into the spool while MLflow does not answer.

    A run gets its records in order and without gaps: once a record is lost, all later ones of its
    run are dropped. This way, `sync` can complete the run from the study later. It could not fill
    a gap, because it sends only steps after the last one that MLflow has. `take`, `deliver` and
    `leave` implement `background.Work`.

    Args:
        buffer: holds the records that are sent next.
        spool: holds records on disk while MLflow does not answer.
        limit: maximal size of the spool, in bytes.
        send: sends what the buffer holds; returns the error if only parts of it could be sent;
            raises if MLflow does not answer.
        say: called with one line when MLflow stops answering or answers again, when the spool is
            nearly full, and when records are lost.
        name: name of MLflow in these lines.
    """

    def __init__(
        self,
        *,
        buffer: RunBuffer,
        spool: Spool,
        limit: int,
        send: Callable[[], Exception | None],
        say: Callable[[str], None],
        name: str,
    ) -> None:
        self.missing = 0  # number of runs that are incomplete in MLflow, known after `leave`
        self._buffer, self._spool, self._limit = buffer, spool, limit
        self._send, self._speak, self._name = send, say, name
        self._away = False  # whether MLflow did not answer at the last delivery
        self._noted: list[Record] = []  # records since the last `take`
        self._uploads: list[Upload] = []  # files and folders since the last `take`
        self._applied: list[Record] = []  # records in pending runs that are not delivered yet
        self._gaps: set[Run] = set()  # runs of which a record was lost
        self._lost, self._reason = 0, ""
        self._told = False  # whether the user was warned that the spool is nearly full

    def note(self, record: Record) -> None:
        """Add a record, for the next `take`."""
        self._noted.append(record)

    def note_upload(self, upload: Upload) -> None:
        """Add a file or folder, for the next `take`."""
        self._uploads.append(upload)

    def take(self) -> None:
        """Move new records into the spool or the pending runs, after all earlier ones."""
        noted, self._noted = self._noted, []
        fresh = [record for record in noted if record.run not in self._gaps]
        self._lost += len(noted) - len(fresh)
        if self._away or self._spool.unread:
            self._keep(fresh)
        else:
            self._apply(fresh)
        # After their run has its name.
        while self._uploads:
            self._buffer.add_upload(self._uploads.pop(0))

    def deliver(self) -> bool:
        """Send what the pending runs hold, and a piece of the spool if MLflow answers.

        Returns:
            Whether there are more records in the spool.

        Raises:
            Exception: something could not be sent.
        """
        if not self._away and self._spool.unread:
            self._apply(self._spool.read())
        try:
            failure = self._send()
        except Exception as error:
            self._settle(error)
            raise
        self._settle(None)
        # Not before the spool is empty: one bad run must not delay the records of others.
        if failure and not self._spool.unread:
            raise failure
        return self._spool.unread

    def leave(self) -> None:
        """Keep undelivered records on disk for the next process, and count their runs."""
        self._keep([])
        runs = {record.run for record in self._applied} | self._buffer.with_uploads()
        self.missing = len(runs)
        # Only to name the runs that are incomplete; the file stays as it is.
        while self._spool.unread:
            runs |= {record.run for record in self._spool.read()}
            self.missing = len(runs)

    def problems(self) -> list[str]:
        """Return which records were lost, in one line for each reason."""
        lost = f"{self._lost} record(s) were dropped: {self._reason}"
        unreadable = f"{self._spool.unreadable} line(s) of {self._spool.path} could not be read"
        return ([lost] if self._lost else []) + ([unreadable] if self._spool.unreadable else [])

    def _settle(self, away: Exception | None) -> None:
        """Update the state after a delivery.

        Args:
            away: the error if MLflow does not answer; `None` if it does.
        """
        before, self._away = self._away, away is not None
        self._applied = [r for r in self._applied if self._buffer.pending(r.run).waits]
        if away and not before:
            self._say(
                f"{self._name} does not answer: {one_line(away)}; going on, records wait in "
                f"{self._spool.path}"
            )
        if before and not away:
            self._say(f"{self._name} answers again")
        # From now on a kill would lose what the pending runs hold.
        if away:
            self._keep([])
        elif not self._spool.unread:
            self._spool.remove()
            self._told = False

    def _apply(self, records: Sequence[Record]) -> None:
        for record in records:
            self._buffer.apply(record)
        self._applied += records

    def _keep(self, records: Sequence[Record]) -> None:
        # While MLflow answers, the spool is being emptied: dropping records would only make gaps.
        limit = self._limit if self._away else math.inf
        try:
            if not self._spool.size and self._applied:
                # Only for the next process: in this one, the pending runs hold these records.
                self._spool.append(self._applied, limit)
                self._spool.skip()
            if records:
                self._spool.append(records, limit)
        except (OSError, MixUnlearnError) as error:
            self._drop(records, one_line(error))
        if self._spool.size > NEAR * limit and not self._told:
            self._told = True
            used = f"{self._spool.size / MIB:.3g} of {limit / MIB:.3g} MiB"
            self._say(f"{self._spool.path} is nearly full ({used}); records beyond are dropped")

    def _drop(self, records: Sequence[Record], reason: str) -> None:
        if records and not self._gaps:
            self._say(f"records for MLflow are dropped, but the study has them: {reason}")
        self._reason = reason
        self._lost += len(records)
        self._gaps |= {record.run for record in records}

    def _say(self, line: str) -> None:
        with contextlib.suppress(Exception):  # an error in the listener must not end the thread
            self._speak(redact(line))
