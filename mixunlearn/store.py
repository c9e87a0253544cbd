"""A content-addressed store: results are computed once, and checked by digest when they are read.

An entry is a folder `<kind>/<key>` with tensors (safetensors), a record (JSON) and a manifest of
their digests. Its key is the signature of the payload that describes how it was made. Machines
without a shared disk share entries through a remote folder; each keeps its own copy.
"""

import json
import logging
import math
import mmap
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from mixunlearn.atomic import discard, publish
from mixunlearn.errors import CorruptError, MissingError, MixUnlearnError
from mixunlearn.files import Files, digest
from mixunlearn.signature import canonical, signature

TENSORS, RECORD, MANIFEST = "tensors.safetensors", "record.json", "manifest.json"
LENGTH_BYTES = 8
# Names of types in safetensors; the numbers are little-endian.
KINDS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8", "BOOL": "?"}
KIND = re.compile(r"[A-Za-z0-9_-]+")

Arrays = Mapping[str, npt.NDArray[Any]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The content stored under one key.

    Args:
        tensors: arrays by name.
        record: plain data.
        path: the entry's folder.
    """

    tensors: Arrays
    record: Mapping[str, Any]
    path: Path


class Store:
    """Entries in one folder; several processes may use it at the same time.

    Args:
        root: this machine's folder; it is created when the first entry is written.
        remote: the folder that all machines share, if `root` itself is not shared.
    """

    def __init__(self, root: Path, remote: Files | None = None) -> None:
        self.root, self.remote = root, remote

    def path(self, kind: str, payload: Mapping[str, object]) -> Path:
        """Return the path of the entry with this payload on this machine; it may not exist.

        Raises:
            ValueError: `kind` is not a plain name.
        """
        if not KIND.fullmatch(kind):
            raise ValueError(f"kind = {kind!r}: must consist of letters, digits, _ and -")
        return self.root / kind / signature(payload)

    def has(self, kind: str, payload: Mapping[str, object]) -> bool:
        """Return whether the entry exists, here or remotely; its content is not checked.

        Raises:
            MixUnlearnError: the remote folder cannot be read.
        """
        path = self.path(kind, payload)
        shared = self._shared(path)
        return (path / MANIFEST).is_file() or (shared is not None and shared.has(MANIFEST))

    def sound(self, kind: str, payload: Mapping[str, object]) -> bool:
        """Return whether the entry exists and is undamaged; if so, both places then have it.

        A damaged copy is replaced by a complete one from the remote folder. If there is none, the
        damaged copies are deleted, with a warning, so that the entry is created again.

        Raises:
            MixUnlearnError: the remote folder cannot be used, or a damaged copy cannot be deleted.
        """
        path = self.path(kind, payload)
        if self._whole(path, payload, place=path):
            self._share(path)
            return True
        shared = self._fetch(path)
        if shared is None:
            return False
        if self._whole(path, payload, place=shared):
            return True
        # The damage came with the download, so the remote entry is the damaged one.
        shared.delete()
        return False

    def write(
        self,
        kind: str,
        payload: Mapping[str, object],
        *,
        tensors: Arrays | None = None,
        record: Mapping[str, object] | None = None,
    ) -> Path:
        """Write an entry atomically, here and remotely; return its folder.

        An undamaged entry is not written again: equal payloads mean equal content.

        Raises:
            MixUnlearnError: the disk is full, or a folder cannot be written.
        """
        target = self.path(kind, payload)
        if self.sound(kind, payload):
            return target
        temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
        try:
            temporary.mkdir(parents=True)
            save_file(_contiguous(tensors or {}), temporary / TENSORS)
            _write_json(temporary / RECORD, {"payload": payload, "record": record or {}})
            digests = {name: digest(temporary / name) for name in (TENSORS, RECORD)}
            _write_json(temporary / MANIFEST, digests)
            publish(temporary, target, marker=MANIFEST)
        except OSError as error:
            raise _unwritable(target, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._share(target)
        return target

    def read(
        self, kind: str, payload: Mapping[str, object], *, command: str, mapped: bool = False
    ) -> Entry:
        """Return an entry after checking its digests; a remote entry is downloaded first.

        Args:
            kind: kind of the entry.
            payload: describes the entry.
            command: the command that creates it, for the error messages.
            mapped: whether tensors are views of the file, which must not be written to; otherwise
                they are in memory.

        Raises:
            MissingError: the entry does not exist.
            CorruptError: a file was changed or damaged.
            MixUnlearnError: the remote folder cannot be read.
        """
        path = self.path(kind, payload)
        if not (path / MANIFEST).is_file() and self._fetch(path) is None:
            places = self.root if self.remote is None else f"{self.root} and {self.remote}"
            raise MissingError(f"{kind} {path.name} is missing in {places}; make it: {command}")
        flaw = _flaw(path, payload)
        if flaw:
            remedy = f"delete {path} and make it again: {command}"
            raise CorruptError(f"{kind} {path.name}: {flaw}; {remedy}")
        stored = json.loads((path / RECORD).read_text())
        tensors = map_file(path / TENSORS) if mapped else load_file(path / TENSORS)
        return Entry(tensors=tensors, record=stored["record"], path=path)

    def discard(self, kind: str, unwanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Delete entries of this machine, here and remotely.

        Args:
            kind: kind of the entries.
            unwanted: gets an entry's payload and returns whether to delete the entry.

        Raises:
            MixUnlearnError: an entry cannot be deleted.
        """
        # Hidden folders are entries that other processes are writing.
        for path in sorted((self.root / kind).glob(f"[!.]*/{RECORD}")):
            try:
                payload = json.loads(path.read_text())["payload"]
            except (OSError, ValueError, KeyError):  # damaged, or another process is writing it
                continue
            if unwanted(payload):
                # Remote first: if the process dies in between, the local record leads here again.
                if shared := self._shared(path.parent):
                    shared.delete()
                try:
                    discard(path.parent)
                except OSError as error:
                    raise _unwritable(path.parent, error) from error

    def _shared(self, path: Path) -> Files | None:
        """Return the remote folder of an entry, `None` if the store has no remote folder."""
        return self.remote and self.remote / path.parent.name / path.name

    def _share(self, path: Path) -> None:
        """Upload an entry unless it is remote already: a killed process may not have done it."""
        shared = self._shared(path)
        if shared is not None and not shared.has(MANIFEST):
            shared.upload(path, marker=MANIFEST)

    def _fetch(self, path: Path) -> Files | None:
        """Download an entry; return its remote folder, `None` if it is not there."""
        shared = self._shared(path)
        if shared is None:
            return None
        try:
            shared.download(path, marker=MANIFEST)
        except MissingError:
            return None
        return shared

    def _whole(self, path: Path, payload: Mapping[str, object], *, place: Path | Files) -> bool:
        """Return whether this machine has an undamaged copy; a damaged one is deleted.

        The warning names `place`, where the copy comes from.
        """
        if not path.exists():
            return False
        flaw = _flaw(path, payload)
        if flaw:
            logger.warning("%s: %s; removed, to be fetched or made again", place, flaw)
            try:
                discard(path)
            except OSError as error:
                raise _unwritable(path, error) from error
        return not flaw


def map_file(path: Path) -> Arrays:
    """Return the tensors of a file as read-only views of it."""
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # safetensors: the length of a header in JSON, the header, then the numbers.
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    start = LENGTH_BYTES + length
    header = json.loads(content[LENGTH_BYTES:start])
    found: dict[str, npt.NDArray[Any]] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, _ = entry["data_offsets"]
            kind, count = np.dtype(KINDS[entry["dtype"]]), math.prod(entry["shape"])
            numbers = np.frombuffer(content, kind, count, offset=start + first) if count else ()
            found[name] = np.asarray(numbers, kind).reshape(entry["shape"])
    return found


def _flaw(path: Path, payload: Mapping[str, object]) -> str | None:
    """Return what is wrong with an entry's folder, `None` if it is undamaged.

    Raises:
        MixUnlearnError: there is no permission to read it.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        broken = [name for name in (TENSORS, RECORD) if digest(path / name) != manifest[name]]
        stored = None if broken else json.loads((path / RECORD).read_text())["payload"]
    except PermissionError as error:  # the content may be fine, so the entry must not be deleted
        remedy = "change its permissions so that you can read it"
        raise MixUnlearnError(f"store {path}: {error}; {remedy}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"cannot be read ({error})"
    if broken:
        return f"{broken[0]} was changed"
    # Keys have only 32 bits, so the whole payload is compared too.
    same = signature(stored) == path.name and canonical(stored) == canonical(payload)
    return None if same else "belongs to other settings"


def _unwritable(path: Path, error: OSError) -> MixUnlearnError:
    return MixUnlearnError(f"store {path}: {error}; free space or change --home")


def _contiguous(tensors: Arrays) -> dict[str, npt.NDArray[Any]]:
    # safetensors writes memory as it lies: a transposed array would be stored with wrong values.
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
