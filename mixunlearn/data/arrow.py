"""A data set as a value, and its memory-mapped file.

A mapped data set is pickled as the name of its file. A machine that does not have the file makes
its own copy, once, from the origin that the data set names.

Shapes: N images, C channels, H W pixels.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache as remember
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
from filelock import FileLock
from numpy.typing import NDArray

from mixunlearn.atomic import replacing
from mixunlearn.errors import CorruptError, MissingError, MixUnlearnError
from mixunlearn.files import version
from mixunlearn.signature import canonical

if TYPE_CHECKING:
    from typing_extensions import Buffer  # `collections.abc` has it from Python 3.12 on

HEADER = b"mixunlearn"  # key in the file's metadata: everything except the rows
IMAGE_AXES = 4
CACHE = "MIXUNLEARN_CACHE"  # environment variable: a machine's folder for copies of data sets
UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError, KeyError, RecursionError)

Origin: TypeAlias = Callable[[], "Buffer"]
RowNames: TypeAlias = Callable[[], Mapping[str, Callable[[], pa.Array]]]
Array = TypeVar("Array", bound=np.ndarray[Any, Any])


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Labelled images, the source's training part first.

    Attributes:
        images_NCHW: uint8, read-only.
        labels_N: int64, indexes into `classes`, read-only.
        classes: name of each class.
        n_train: rows [0, n_train) are the source's training part, rows [n_train, N) its
            own test part; N if it has none.
        source: name of the source.
        digest: 64 hex digits that identify the content.
        skipped: files that the source could not decode and left out, each with the reason.
        gaps: their places among all files of the source; empty in caches of version 0.1.
        said: what the user should know about how the source was read, each in one line.
        path: the file that the rows are mapped from; `None` if they are in memory, then pickling
            copies them.
        origin: returns the bytes of that file, for machines that do not have it; picklable.
        row_names: returns what the source calls its training rows (names of files, columns of
            keys), by the name of the column; each is read when it is called. Picklable. `None` if
            rows have numbers only.
    """

    images_NCHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    classes: tuple[str, ...]
    n_train: int
    source: str
    digest: str
    skipped: tuple[str, ...] = ()
    gaps: tuple[int, ...] = ()
    said: tuple[str, ...] = ()
    path: Path | None = None
    origin: Origin | None = None
    row_names: RowNames | None = None

    def shipped(self, origin: Origin) -> "Dataset":
        """Return the same data set; machines without its file get the bytes from `origin`."""
        return replace(self, origin=origin)

    def restore(self) -> None:
        """Write the file again if somebody has removed it while it is mapped.

        Other processes, which are sent only its name, could not open it otherwise.

        Raises:
            MixUnlearnError: it was cut or replaced, or it cannot be written.
        """
        if self.path is None or _mapped(self.path, self.digest):
            return
        # A file that was cut must not be read: the system kills a process that does.
        if os.path.lexists(self.path):
            reason = "was cut or replaced while it was in use"
            raise MixUnlearnError(f"{self.path} {reason}; run the same command again")
        write(self, self.path)

    def __getstate__(self) -> dict[str, Any]:
        if self.path is None:
            return self.__dict__
        return {name: getattr(self, name) for name in ("path", "digest", "origin")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state if "labels_N" in state else vars(_reopen(**state)))


def make_dataset(
    images_NCHW: NDArray[np.uint8],
    labels_N: NDArray[np.integer[Any]],
    *,
    classes: Sequence[str],
    n_train: int,
    source: str,
    skipped: Sequence[str] = (),
    gaps: Sequence[int] = (),
    said: Sequence[str] = (),
) -> Dataset:
    """Return the data set of these rows, with its digest; the arrays are not copied.

    Raises:
        ValueError: the arrays do not make a data set (wrong type, shape, label or `n_train`).
    """
    images_NCHW = np.ascontiguousarray(images_NCHW)
    labels = np.ascontiguousarray(labels_N, np.int64)
    _check(images_NCHW, labels, len(classes), n_train)
    return Dataset(
        images_NCHW=_read_only(images_NCHW),
        labels_N=_read_only(labels),
        classes=tuple(classes),
        n_train=n_train,
        source=source,
        digest=_digest(images_NCHW, labels, classes, n_train),
        skipped=tuple(skipped),
        gaps=tuple(gaps),
        said=tuple(said),
    )


def write(dataset: Dataset, path: Path) -> None:
    """Write `dataset` atomically to `path` as one Arrow record batch.

    Raises:
        MixUnlearnError: the file cannot be written.
    """
    with _new_file(path, "free space there or choose another --home") as sink:
        write_batch(dataset, sink)


def read(path: Path) -> Dataset:
    """Return the data set in `path`, memory-mapped, after checking its digest.

    A process checks a file once, and again if it changed; 0.1 to 0.2 s for CIFAR-10.

    Raises:
        MissingError: there is no such file.
        CorruptError: the file is truncated, was changed or was not written by this module.
    """
    if not path.is_file():
        raise MissingError(f"{path} does not exist: the first run of an experiment creates it")
    try:
        dataset = _map(path)
        if dataset.digest != _digest_of_version(path, version(path)):
            raise ValueError("its content was changed")
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        remedy = "delete it; it will be built again"
        raise CorruptError(f"{path} is no valid data set file ({reason}): {remedy}") from error
    return dataset


def keep(dataset: Dataset, path: Path) -> Dataset:
    """Return `dataset` memory-mapped from `path`; the file is written if missing or damaged.

    Raises:
        CorruptError: the file holds different data.
        MixUnlearnError: the file cannot be written.
    """
    try:
        kept = read(path)
    except (MissingError, CorruptError):
        write(dataset, path)
        kept = read(path)
    if kept.digest != dataset.digest:
        remedy = "delete it; it will be built again"
        raise CorruptError(f"{path} does not hold the data of the source: {remedy}")
    return kept


def _digest(
    images_NCHW: NDArray[np.uint8],
    labels_N: NDArray[np.int64],
    classes: Sequence[str],
    n_train: int,
) -> str:
    # Not the source: the same images are the same data, wherever they come from.
    total = hashlib.sha256(canonical([images_NCHW.shape, list(classes), n_train]).encode())
    total.update(images_NCHW.data)
    # In one byte order, so that all machines compute the same digest.
    total.update(labels_N.astype("<i8", copy=False).data)
    return total.hexdigest()


@remember
def _digest_of_version(path: Path, _: tuple[int, int, int]) -> str:
    # The version is only part of the cache's key: a changed file is read again.
    return _digest_of(_map(path))


def _digest_of(dataset: Dataset) -> str:
    return _digest(dataset.images_NCHW, dataset.labels_N, dataset.classes, dataset.n_train)


def _check(
    images_NCHW: NDArray[np.uint8], labels_N: NDArray[np.int64], n_classes: int, n_train: int
) -> None:
    if images_NCHW.dtype != np.uint8 or images_NCHW.ndim != IMAGE_AXES:
        raise ValueError(f"images are {images_NCHW.dtype} of shape {images_NCHW.shape}")
    if labels_N.shape != images_NCHW.shape[:1]:
        raise ValueError(f"{labels_N.shape} labels for {images_NCHW.shape[:1]} images")
    if not 0 < n_train <= len(labels_N):
        raise ValueError(f"a training part of {n_train} out of {len(labels_N)} rows")
    if labels_N.min() < 0 or labels_N.max() >= n_classes:
        raise ValueError(f"a label is outside the {n_classes} classes")


def _read_only(array: Array) -> Array:
    # Like arrays that are mapped from a file, so that both kinds of data sets behave the same.
    # A view, because the caller's own array must stay writeable.
    view = array.view()
    view.flags.writeable = False
    return view


@contextmanager
def _new_file(path: Path, remedy: str) -> Iterator[IO[bytes]]:
    """Yield a file to write to; it becomes `path` when it is complete."""
    try:
        with replacing(path) as temporary, temporary.open("wb") as sink:
            yield sink
    except OSError as error:
        raise MixUnlearnError(f"{path} cannot be written ({error}): {remedy}") from error


def write_batch(dataset: Dataset, sink: object) -> None:
    """Write a data set to an open file or output of Arrow."""
    images = dataset.images_NCHW
    header = {
        "shape": images.shape,
        "classes": dataset.classes,
        "n_train": dataset.n_train,
        "source": dataset.source,
        "digest": dataset.digest,
        "skipped": dataset.skipped,
        "gaps": dataset.gaps,
        "said": dataset.said,
    }
    pixels = pa.array(images.reshape(-1))
    columns = {
        "image": pa.FixedSizeListArray.from_arrays(pixels, int(np.prod(images.shape[1:]))),
        "label": pa.array(dataset.labels_N),
    }
    batch = pa.record_batch(columns)
    # In the footer, so that the offset of the pixels does not depend on the header.
    metadata = {HEADER: canonical(header)}
    options = pa.ipc.IpcWriteOptions(allow_64bit=True)  # the default allows less than 2 GiB
    with pa.ipc.new_file(sink, batch.schema, options=options, metadata=metadata) as writer:
        writer.write_batch(batch)


def _map(path: Path) -> Dataset:
    # Absolute, because the process that unpickles it may have another working folder.
    return replace(view(pa.memory_map(str(path))), path=path.resolve())


def view(file: pa.NativeFile) -> Dataset:
    """Return the data set in an open file, as views of its memory."""
    reader = pa.ipc.open_file(file)
    # Files of earlier versions have the header in the schema.
    header = json.loads((reader.metadata or reader.schema.metadata or {}).get(HEADER, b"null"))
    if header is None:
        raise ValueError("another program wrote it")
    # With several batches, the images could not be one array without a copy.
    if reader.num_record_batches != 1:
        raise ValueError(f"{reader.num_record_batches} record batches")
    batch = reader.get_batch(0)
    # A copy could exceed the memory, so an error is better.
    pixels = batch.column("image").flatten().to_numpy(zero_copy_only=True)
    images = pixels.reshape(header["shape"])
    labels = batch.column("label").to_numpy(zero_copy_only=True)
    _check(images, labels, len(header["classes"]), header["n_train"])
    return Dataset(
        images_NCHW=images,
        labels_N=labels,
        classes=tuple(header["classes"]),
        n_train=header["n_train"],
        source=header["source"],
        digest=header["digest"],
        skipped=tuple(header.get("skipped", ())),
        gaps=tuple(header.get("gaps", ())),
        said=tuple(header.get("said", ())),
    )


def _reopen(path: Path, digest: str, origin: Origin | None) -> Dataset:
    """Return a data set of another process: from its file, or from this machine's copy.

    Raises:
        MissingError: the file is not on this machine, and there is no origin to copy it from.
        MixUnlearnError: the copy cannot be made.
    """
    found = _mapped(path, digest) or _mapped(_copy_of(digest), digest)
    if found is None:
        if origin is None:
            remedy = "set --home to a folder that all nodes share"
            raise MissingError(f"{path} is not on this machine: {remedy}")
        found = _copied(_copy_of(digest), digest, origin)
    return replace(found, origin=origin)


def machine_folder() -> Path:
    """Return this machine's own folder for data; it does not depend on the home."""
    return Path(os.environ.get(CACHE) or "~/.cache/mixunlearn").expanduser()


def _copy_of(digest: str) -> Path:
    """Return the path of this machine's copy of a data set; it may not exist."""
    return machine_folder() / f"{digest}.arrow"


def _mapped(path: Path, digest: str) -> Dataset | None:
    """Return the data set in `path` if its header has this digest, else `None`."""
    try:
        dataset = _map(path)
    except UNREADABLE:
        return None
    # Only the header is compared: hashing large data takes minutes, and every worker comes here.
    return dataset if dataset.digest == digest else None


def _copied(copy: Path, digest: str, origin: Origin) -> Dataset:
    """Return this machine's copy; one process makes it while the others wait."""
    remedy = f"free space there or set {CACHE} to another folder"
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{copy}.lock"):
            # Another process may have made it while this one waited for the lock.
            found = _mapped(copy, digest)
            if found is None:
                content = _received(digest, origin)
                with _new_file(copy, remedy) as sink:
                    sink.write(content)
                found = _map(copy)
        return found
    except OSError as error:
        raise MixUnlearnError(f"{copy} cannot be made ({error}): {remedy}") from error


def _received(digest: str, origin: Origin) -> "Buffer":
    """Return the bytes of a data set's file after checking them.

    Raises:
        CorruptError: they are damaged or belong to another data set.
    """
    content = origin()
    try:
        found = view(pa.BufferReader(content))
    except UNREADABLE as error:
        raise CorruptError(f"data set {digest[:8]} arrived damaged; run this again") from error
    if _digest_of(found) != digest:
        raise CorruptError(f"data set {digest[:8]} arrived changed; run this again")
    return content
