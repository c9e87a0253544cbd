"""A content-addressed store: what was computed once is never computed again, nor trusted blindly.

An entry is a folder `<kind>/<key>` with tensors (safetensors), a record (JSON) and a manifest of
their digests. Its key is the signature of the payload that describes how it was made.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from mixunlearn.errors import CorruptError, MissingError, MixUnlearnError
from mixunlearn.signature import signature

TENSORS, RECORD, MANIFEST = "tensors.safetensors", "record.json", "manifest.json"

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What was stored under one key.

    Args:
        tensors: arrays by name.
        record: plain data.
        path: the entry's folder.
    """

    tensors: Arrays
    record: Mapping[str, Any]
    path: Path


class Store:
    """Entries under one folder; several processes may use it at once.

    Args:
        root: the folder; made when the first entry is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, kind: str, payload: Mapping[str, object]) -> Path:
        """Return where the entry with this payload is, or would be."""
        return self.root / kind / signature(payload)

    def has(self, kind: str, payload: Mapping[str, object]) -> bool:
        """Return whether the entry exists; its content is checked on reading."""
        return (self.path(kind, payload) / MANIFEST).is_file()

    def write(
        self,
        kind: str,
        payload: Mapping[str, object],
        *,
        tensors: Arrays | None = None,
        record: Mapping[str, object] | None = None,
    ) -> Path:
        """Write an entry whole or not at all, and return its folder.

        An entry that exists stays as it is: equal payloads mean equal content.

        Raises:
            MixUnlearnError: the disk is full, or the folder cannot be written.
        """
        target = self.path(kind, payload)
        if self.has(kind, payload):
            return target
        temporary = self.root / kind / f".{target.name}-{uuid.uuid4().hex[:8]}"
        try:
            temporary.mkdir(parents=True)
            save_file(_contiguous(tensors or {}), temporary / TENSORS)
            _write_json(temporary / RECORD, {"payload": payload, "record": record or {}})
            digests = {name: _digest(temporary / name) for name in (TENSORS, RECORD)}
            _write_json(temporary / MANIFEST, digests)
            _publish(temporary, target)
        except OSError as error:
            raise MixUnlearnError(
                f"store {target}: {error}; free space or change --home"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target

    def read(self, kind: str, payload: Mapping[str, object], *, command: str) -> Entry:
        """Return an entry after checking its digests.

        Args:
            kind: of the entry.
            payload: that describes it.
            command: the command that makes it, for the error messages.

        Raises:
            MissingError: there is no such entry.
            CorruptError: a file is not what was written.
        """
        path = self.path(kind, payload)
        if not self.has(kind, payload):
            raise MissingError(f"{kind} {path.name} is missing in {self.root}; make it: {command}")
        remedy = f"delete {path} and make it again: {command}"
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            broken = [name for name in (TENSORS, RECORD) if _digest(path / name) != manifest[name]]
        except (OSError, ValueError, KeyError) as error:
            raise CorruptError(f"{kind} {path.name} cannot be read ({error}); {remedy}") from error
        if broken:
            raise CorruptError(f"{kind} {path.name}: {broken[0]} was changed; {remedy}")
        stored = json.loads((path / RECORD).read_text())
        if signature(stored["payload"]) != path.name or stored["payload"] != _plain(payload):
            raise CorruptError(f"{kind} {path.name} belongs to other settings; {remedy}")
        return Entry(tensors=load_file(path / TENSORS), record=stored["record"], path=path)


def _contiguous(tensors: Arrays) -> dict[str, npt.NDArray[Any]]:
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


def _plain(value: Mapping[str, object]) -> object:
    return json.loads(json.dumps(value))


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _publish(temporary: Path, target: Path) -> None:
    """Move a finished folder to its name, after its bytes are on the disk."""
    for path in (*temporary.iterdir(), temporary):
        _sync(path)
    try:
        temporary.rename(target)
    except OSError:
        # Another process was faster with the same content, or a broken folder is in the way.
        if (target / MANIFEST).is_file():
            return
        shutil.rmtree(target)
        temporary.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
