"""A data set as a value, and its memory-mapped file.

Shapes: N images, F channels, H W pixels.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mixunlearn.errors import CorruptError, MissingError, MixUnlearnError
from mixunlearn.signature import canonical

HEADER = b"mixunlearn"  # key of the schema metadata that holds everything but the rows
IMAGE_AXES = 4

Array = TypeVar("Array", bound=np.ndarray[Any, Any])


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Labelled images, the source's training part first.

    Attributes:
        images_NFHW: uint8, read-only.
        labels_N: int64, indexes into `classes`, read-only.
        classes: name of each class.
        n_train: rows [0, n_train) are the source's training part, rows [n_train, N) its
            own test part; N when it has none.
        source: name of the source.
        digest: 64 hex digits that name the content.
    """

    images_NFHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    classes: tuple[str, ...]
    n_train: int
    source: str
    digest: str


def make_dataset(
    images_NFHW: NDArray[np.uint8],
    labels_N: NDArray[np.integer[Any]],
    *,
    classes: Sequence[str],
    n_train: int,
    source: str,
) -> Dataset:
    """Return the data set of these rows, with its digest; the arrays are not copied.

    Raises:
        ValueError: the arrays do not make a data set (wrong type, shape, label or `n_train`).
    """
    images_NFHW = np.ascontiguousarray(images_NFHW)
    labels = np.ascontiguousarray(labels_N, np.int64)
    _check(images_NFHW, labels, len(classes), n_train)
    return Dataset(
        images_NFHW=_read_only(images_NFHW),
        labels_N=_read_only(labels),
        classes=tuple(classes),
        n_train=n_train,
        source=source,
        digest=_digest(images_NFHW, labels, classes, n_train),
    )


def write(dataset: Dataset, path: Path) -> None:
    """Write `dataset` to `path` as one Arrow record batch; readers see all of it or nothing.

    Raises:
        MixUnlearnError: the file cannot be written.
    """
    # Several processes, on several machines, may write the same file at once.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as sink:
            _write_batch(dataset, sink)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(path)
    except OSError as error:
        remedy = "free space there or choose another --home"
        raise MixUnlearnError(f"{path} cannot be written ({error}): {remedy}") from error
    finally:
        with suppress(OSError):  # or the reason above would be lost
            temporary.unlink(missing_ok=True)


def read(path: Path) -> Dataset:
    """Return the data set in `path`, memory-mapped: pixels are loaded when they are touched.

    Raises:
        MissingError: there is no such file.
        CorruptError: the file is truncated or is not one of ours.
    """
    if not path.is_file():
        raise MissingError(f"{path} does not exist: it is made when an experiment first runs")
    try:
        return _map(path)
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        remedy = "delete it, it is built again"
        raise CorruptError(f"{path} is not a whole data set file ({reason}): {remedy}") from error


def _digest(
    images_NFHW: NDArray[np.uint8],
    labels_N: NDArray[np.int64],
    classes: Sequence[str],
    n_train: int,
) -> str:
    total = hashlib.sha256(canonical([images_NFHW.shape, list(classes), n_train]).encode())
    total.update(images_NFHW.data)
    total.update(labels_N.astype("<i8", copy=False).data)
    return total.hexdigest()


def _check(
    images_NFHW: NDArray[np.uint8], labels_N: NDArray[np.int64], n_classes: int, n_train: int
) -> None:
    if images_NFHW.dtype != np.uint8 or images_NFHW.ndim != IMAGE_AXES:
        raise ValueError(f"images are {images_NFHW.dtype} of shape {images_NFHW.shape}")
    if labels_N.shape != images_NFHW.shape[:1]:
        raise ValueError(f"{labels_N.shape} labels for {images_NFHW.shape[:1]} images")
    if not 0 < n_train <= len(labels_N):
        raise ValueError(f"a training part of {n_train} out of {len(labels_N)} rows")
    if labels_N.min() < 0 or labels_N.max() >= n_classes:
        raise ValueError(f"a label is outside the {n_classes} classes")


def _read_only(array: Array) -> Array:
    # A data set behaves the same before and after it went through the file.
    view = array.view()
    view.flags.writeable = False
    return view


def _write_batch(dataset: Dataset, sink: object) -> None:
    images = dataset.images_NFHW
    header = {
        "shape": images.shape,
        "classes": dataset.classes,
        "n_train": dataset.n_train,
        "source": dataset.source,
        "digest": dataset.digest,
    }
    pixels = pa.array(images.reshape(-1))
    columns = {
        "image": pa.FixedSizeListArray.from_arrays(pixels, int(np.prod(images.shape[1:]))),
        "label": pa.array(dataset.labels_N),
    }
    batch = pa.record_batch(columns, metadata={HEADER: canonical(header)})
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _map(path: Path) -> Dataset:
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    header = json.loads((reader.schema.metadata or {}).get(HEADER, b"null"))
    if header is None:
        raise ValueError("another program wrote it")
    # One batch, or the images would not be one array without a copy.
    if reader.num_record_batches != 1:
        raise ValueError(f"{reader.num_record_batches} record batches")
    batch = reader.get_batch(0)
    pixels = batch.column("image").flatten().to_numpy(zero_copy_only=True)
    images = pixels.reshape(header["shape"])
    labels = batch.column("label").to_numpy(zero_copy_only=True)
    _check(images, labels, len(header["classes"]), header["n_train"])
    return Dataset(
        images_NFHW=images,
        labels_N=labels,
        classes=tuple(header["classes"]),
        n_train=header["n_train"],
        source=header["source"],
        digest=header["digest"],
    )
