"""Folders on any file system that pyarrow knows: this machine's, S3, Google's, HDFS.

An object store has neither renames nor locks. So a folder counts as complete when it contains its
marker, a file that is uploaded last.
"""

import hashlib
import logging
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache as remember
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from mixunlearn.atomic import publish, sync
from mixunlearn.errors import InputError, MissingError, MixUnlearnError
from mixunlearn.patience import Answer, disk_full, patiently
from mixunlearn.redaction import redact, redact_address
from mixunlearn.regular import open_regular

logger = logging.getLogger(__name__)

OBJECT_STORES = ("s3", "gcs", "abfs")  # here a PUT is atomic: readers see the whole file or none
CONNECT_SECONDS, SILENCE_SECONDS, ATTEMPTS = 3, 5, 3  # without them a dead address hangs minutes
REASON_LENGTH = 240

# Errors that a user must fix in the address or its permissions; all others may be temporary.
_REFUSED = re.compile(
    r"access.?denied|forbidden|no.?such.?bucket|bucket .*(not found|does not exist)|"
    r"invalid.?access.?key|signature|permission|unauthori[sz]ed|not a directory|cannot create|"
    r"unable to load",
    re.IGNORECASE,
)
_PROTOCOL = re.compile(r"\n|; Details: | \(Request ID|\. Detail: ")  # the rest does not help users


@dataclass(frozen=True, repr=False)
class Files:
    """A folder on a file system; create it with `Files.of`, get a subfolder with `/`.

    It is pickled as its address. `str()` and `repr()` hide passwords.

    Attributes:
        uri: address of the outermost folder, as the user wrote it, including passwords.
        inside: path relative to that folder.
        patient: whether everything that is done here waits while the address does not answer.
    """

    uri: str
    inside: str = ""
    patient: bool = False

    @classmethod
    def of(cls, place: str | Path) -> "Files":
        """Return the folder at a path or an address such as `s3://bucket/folder?region=...`."""
        if isinstance(place, str) and "://" in place:
            return cls(place)
        try:
            # Absolute, because a worker may have another working folder.
            return cls(Path(place).expanduser().resolve().as_uri())
        except RuntimeError as error:  # no such user, or links that lead in a circle
            raise InputError("storage.files", str(place), f"{error}; correct the path") from error

    def patiently(self) -> "Files":
        """Return this folder such that everything waits while its address does not answer.

        Only for an address that has answered before: a mistake in it would be waited for as well.
        """
        return replace(self, patient=True)

    @property
    def is_local(self) -> bool:
        """Return whether the folder is on this machine's file system."""
        return self.uri.lower().startswith("file:")

    @property
    def filesystem(self) -> fs.FileSystem:
        """Return the file system; all folders of one address share it.

        Raises:
            InputError: the address cannot be used.
            MixUnlearnError: the address does not answer.
        """
        return _resolve(self.uri)[0]

    @property
    def path(self) -> str:
        """Return the folder's path in its file system."""
        return "/".join(part for part in (_resolve(self.uri)[1], self.inside) if part)

    def __truediv__(self, name: str) -> "Files":
        """Return a subfolder of this folder.

        Raises:
            InputError: the name leads out of the folder.
        """
        return replace(self, inside="/".join(filter(None, (self.inside, _checked(name)))))

    def __str__(self) -> str:
        address, mark, query = self.uri.partition("?")
        if self.inside:
            address = f"{address.rstrip('/')}/{self.inside}"
        return redact_address(address + mark + query)

    __repr__ = __str__

    def require(self) -> None:
        """Check that files can be written and removed here; leave none behind.

        Raises:
            InputError: the address or its permissions must be changed.
            MixUnlearnError: the address does not answer.
        """
        name = f".mixunlearn-{uuid.uuid4().hex}"
        self.write(name, b"")
        self._do(lambda: self.filesystem.delete_file(self._at(name)))

    def children(self) -> list[str]:
        """Return the sorted names of the files and folders in this folder, without hidden ones.

        Raises:
            MixUnlearnError: the folder cannot be read.
        """

        def names() -> list[str]:
            # Object stores have no empty folders: without files, a folder is missing there.
            selector = fs.FileSelector(self.path, allow_not_found=True)
            return [info.base_name for info in self.filesystem.get_file_info(selector)]

        return sorted(name for name in self._do(names) if not name.startswith("."))

    def has(self, name: str) -> bool:
        """Return whether a file with this name exists.

        Raises:
            MixUnlearnError: the folder cannot be read.
        """
        return self._do(lambda: bool(self.filesystem.get_file_info(self._at(name)).is_file))

    def read(self, name: str) -> bytes:
        """Return the content of a small file.

        Raises:
            MissingError: there is no such file.
            MixUnlearnError: it cannot be read.
        """

        def content() -> bytes:
            with self.filesystem.open_input_stream(self._at(name)) as stream:
                return bytes(stream.read())

        return self._do(content)

    def write(self, name: str, content: bytes) -> None:
        """Write a small file; readers see the old or the new content, never a part of it.

        Raises:
            MixUnlearnError: it cannot be written.
        """
        self._do(lambda: self._write(self._at(name), content))

    def upload(self, folder: Path, *, marker: str) -> None:
        """Copy every file of a local folder to this folder, the marker last.

        Raises:
            MixUnlearnError: a file cannot be written.
        """
        names = [
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        ]
        for name in names:
            if name != marker:
                self._upload(folder / name, self._at(name))
        self.write(marker, (folder / marker).read_bytes())

    def download(self, folder: Path, *, marker: str) -> None:
        """Copy everything in this folder to a local folder that appears complete or not at all.

        Raises:
            MissingError: the marker is missing.
            MixUnlearnError: a file cannot be read, or cannot be written on this machine.
        """
        if not self.has(marker):
            raise MissingError(f"{self / marker} does not exist")
        # Next to the target, because a rename works only within one file system.
        temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
        try:
            self._do(lambda: self._copy_to(temporary))
            with self._explained():
                publish(temporary, folder, marker=marker)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def delete(self) -> None:
        """Delete the folder and everything in it, if it exists.

        Raises:
            MixUnlearnError: the folder cannot be deleted.
        """

        def delete() -> None:
            with suppress(FileNotFoundError):
                self.filesystem.delete_dir(self.path)

        self._do(delete)

    def _at(self, name: str) -> str:
        return f"{self.path}/{_checked(name)}"

    def _do(self, action: Callable[[], Answer]) -> Answer:
        """Do something with the file system; if `patient`, wait while it does not answer."""
        told = False

        def waiting(error: Exception) -> None:
            nonlocal told
            # Neither comes back by itself: a file that is missing, free space.
            if isinstance(error, FileNotFoundError) or disk_full(str(error)):
                raise error
            if not told:
                logger.warning("%s: %s; waiting for it", self, _reason(error))
            told = True

        with self._explained():
            if self.patient:
                return patiently(action, (OSError, pa.ArrowException), waiting)
            return action()

    def _write(self, target: str, content: bytes) -> None:
        if self.filesystem.type_name in OBJECT_STORES:
            self._put(target, content)
            return
        folder, _, base = target.rpartition("/")
        # Hidden, so that `children` never lists a file that is not complete.
        temporary = f"{folder}/.{base}-{uuid.uuid4().hex}"
        try:
            self.filesystem.create_dir(folder, recursive=True)
            self._put(temporary, content)
            self.filesystem.move(temporary, target)
        # Ctrl-C, too, must not leave the temporary file.
        except BaseException:
            with suppress(OSError):  # otherwise, this error would hide the first one
                self.filesystem.delete_file(temporary)
            raise

    def _copy_to(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        fs.copy_files(
            self.path,
            str(folder),
            source_filesystem=self.filesystem,
            destination_filesystem=fs.LocalFileSystem(),
        )

    def _put(self, target: str, content: bytes) -> None:
        with self.filesystem.open_output_stream(target) as stream:
            stream.write(content)
        # Otherwise, after a power cut, the name could be there with an empty file.
        if self.is_local:
            sync(Path(target))

    def _upload(self, source: Path, target: str) -> None:
        def copy() -> None:
            # Object stores have no folders: there, this would only add an empty object.
            if self.filesystem.type_name not in OBJECT_STORES:
                self.filesystem.create_dir(target.rpartition("/")[0], recursive=True)
            fs.copy_files(
                str(source),
                target,
                source_filesystem=fs.LocalFileSystem(),
                destination_filesystem=self.filesystem,
            )

        self._do(copy)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn a file system's error into one line without passwords."""
        try:
            yield
        except FileNotFoundError as error:
            # A missing bucket is a FileNotFoundError too, but then the address must be corrected.
            if not _REFUSED.search(str(error)):
                raise MissingError(f"{self}: a file does not exist ({_reason(error)})") from None
            raise _refusal(self, error) from None
        # The original error is cut off by `from None`, because it may contain passwords.
        except (OSError, pa.ArrowException) as error:
            raise _refusal(self, error) from None


def version(path: Path) -> tuple[int, int, int]:
    """Return values that change when a file changes: (inode, bytes, time of last change in ns).

    Raises:
        OSError: the file does not exist or cannot be accessed.
    """
    status = path.stat()
    # The inode differs after a replacement, even if size and time happen to be the same.
    return status.st_ino, status.st_size, status.st_mtime_ns


def digest(path: Path) -> str:
    """Return a file's SHA-256 in hex; a process hashes a file only once, unless it changed.

    Raises:
        OSError: the file cannot be read.
    """
    return _digest_of_version(path, version(path))


@lru_cache(maxsize=4096)
def _digest_of_version(path: Path, _: tuple[int, int, int]) -> str:
    # The version is only part of the cache's key, so that a changed file is hashed again.
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@remember
def _resolve(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of an address and the path in it."""
    try:
        filesystem, path = fs.FileSystem.from_uri(_impatient(uri))
    except (OSError, pa.ArrowException) as error:
        # pyarrow has no type of its own for this error.
        unsupported = "Unrecognized filesystem type" in str(error)
        remedy = "use a folder, or an address that starts with s3://, gs://, hdfs:// or file://"
        if unsupported or isinstance(error, pa.ArrowInvalid):
            shown = redact_address(uri)
            # It repeats the address, in quotes that a password may contain as well.
            reason = _reason(str(error).replace(uri, shown))
            reason = "unknown kind of address" if unsupported else reason
            raise InputError("storage.files", shown, f"{reason}; {remedy}") from None
        raise _refusal(Files(uri), error) from None
    if not path:
        raise InputError(
            "storage.files", redact_address(uri), "names no bucket; add it after the //"
        )
    if isinstance(filesystem, fs.S3FileSystem):
        # An address cannot express these options, so the file system is built again, as unpickling
        # would do it; all other options stay the same.
        _, (options,) = filesystem.__reduce__()
        filesystem = fs.S3FileSystem(
            **options
            | {
                "connect_timeout": CONNECT_SECONDS,
                "request_timeout": SILENCE_SECONDS,
                "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
                "allow_delayed_open": True,  # a small file is then a single PUT
            }
        )
    # The root of a disk would become an empty path without the `or`.
    return filesystem, path.rstrip("/") or path


def _impatient(uri: str) -> str:
    """Return the address with a limit for Google's retries, which last 15 minutes by default."""
    if not uri.startswith(("gs://", "gcs://")) or "retry_limit_seconds=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}retry_limit_seconds={ATTEMPTS * SILENCE_SECONDS}"


def _checked(name: str) -> str:
    parts = name.split("/")
    if "\\" in name or not all(part.strip(". \0") for part in parts):
        remedy = "leads out of the folder; use plain names between single slashes"
        raise InputError("storage.files", name, remedy)
    return name


def _refusal(files: Files, error: Exception) -> MixUnlearnError:
    """Return the error for an answer of the file system, or for no answer."""
    reason = _reason(error)
    # A patient folder has answered before, so its address is right.
    if not files.patient and _REFUSED.search(reason):
        remedy = f"{reason}; correct the address, or the rights and keys for it"
        return InputError("storage.files", str(files), remedy)
    return MixUnlearnError(
        f"storage.files = {str(files)!r}: {reason}; try again later, or change it"
    )


def _reason(error: Exception | str) -> str:
    return redact(_PROTOCOL.split(str(error).strip(), maxsplit=1)[0])[:REASON_LENGTH]
