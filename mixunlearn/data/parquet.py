"""Parquet files of labelled images, in the layout of Hugging Face data sets.

Shapes: N images, C channels, H W pixels.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mixunlearn.data.addresses import Named
from mixunlearn.data.arrow import Dataset, make_dataset
from mixunlearn.data.pixels import (
    PixelError,
    Shape,
    decode,
    decode_squares,
    describe_shape,
    is_text,
    linked_files,
)
from mixunlearn.data.requests import is_name
from mixunlearn.data.shards import Shard, columns_of, open_part, opened
from mixunlearn.errors import InputError
from mixunlearn.files import digest
from mixunlearn.wording import counted

BATCH = 256  # rows decoded at a time: limits the memory for large float images
SHOWN = 10  # labels listed in an error message
COLOURS = 3
PATH = "path"  # field of an image: the name of its file

Labels = NDArray[Any]  # int64 or text
T = TypeVar("T")
# Makes images of a column, given the folder of links and the shape that is expected.
Decoder = Callable[[pa.Array, Path | None, Shape | None], NDArray[np.uint8]]


def load(
    train: Named,
    test: Named | None = None,
    image: str | None = None,
    label: str | None = None,
    size: int | None = None,
) -> Dataset:
    """Return the data set in Parquet files, decoded in memory.

    Args:
        train: a file, a folder, a glob or an address, or a list of them; files are read in sorted
            order.
        test: the same for the data set's own test part.
        image: column of images; layouts as in `mixunlearn.data.pixels.decode`. `None`: the column
            with a usual name.
        label: column of integers or texts; `None` as for `image`. Class names come from the file's
            Hugging Face metadata; without it, they are the sorted distinct labels of the training
            part.
        size: images of any size and mode become (3, size, size); `None`: all must be alike.

    Raises:
        InputError: a file, a column, an image or a label cannot be used.
        MixUnlearnError: an address does not answer.
    """
    columns = columns_of("data.train", train, image, label)
    train_shards = open_part("data.train", train, columns)
    test_shards = open_part("data.test", test, columns) if test is not None else []
    labels = _read_labels(train_shards, columns.label)
    classes = _classes(train_shards, labels, columns.label)
    indexes = [_indexes("data.label", columns.label, labels, classes)]
    if test is not None:
        test_labels = _read_labels(test_shards, columns.label)
        _refuse_mixed_kinds([labels, test_labels], columns.label)
        _refuse_other_names(test_shards, test, classes)
        indexes.append(_indexes("data.test", test, test_labels, classes))
    images_NCHW, changes = _read_images(train_shards, test_shards, columns.image, size)
    return make_dataset(
        images_NCHW,
        np.concatenate(indexes),
        classes=classes,
        n_train=len(labels),
        source="parquet",
        said=[*columns.said, *changes],
    )


def contents(
    train: Named,
    test: Named | None = None,
    image: str | None = None,
    label: str | None = None,
    **_: object,
) -> list[str]:
    """Return the digests of all files of the data set: Parquet files, then linked images.

    A file at an address is known by its path, size and time, without being read.

    Raises:
        InputError: a Parquet file or a column is missing.
        MixUnlearnError: an address does not answer.
    """
    columns = columns_of("data.train", train, image, label)
    shards = open_part("data.train", train, columns)
    if test is not None:
        shards += open_part("data.test", test, columns)
    linked = [path for shard in shards for path in _linked(shard, columns.image)]
    return [shard.version or _digest(shard.path) for shard in shards] + [*map(_digest, linked)]


def row_names(
    dataset: Dataset, train: Named, image: str | None = None, label: str | None = None, **_: object
) -> Mapping[str, Callable[[], pa.Array]]:
    """Return the columns of text or whole numbers that the training rows have; see `Dataset`.

    Images of type struct{bytes, path}, as Hugging Face writes them, name their rows by `path`.

    Args:
        dataset: the rows of the files; not needed.
        train: as for `load`.
        image: the column of images, which names no row.
        label: the column of labels, which names no row.

    Raises:
        InputError: a file cannot be read, or, when a column is read, lacks it.
        MixUnlearnError: an address does not answer.
    """
    chosen = columns_of("data.train", train, image, label)
    shards = open_part("data.train", train, chosen)
    with opened(shards[0]) as file:
        schema = file.schema_arrow
    columns = {
        field.name: partial(_read_names, shards, field.name)
        for field in schema
        if field.name not in {chosen.image, chosen.label} and schema.names.count(field.name) == 1
        if is_name(field.type)
    }
    kind = schema.field(chosen.image).type
    inside = pa.types.is_struct(kind) and kind.get_field_index(PATH) >= 0
    return {PATH: partial(_read_paths, shards, chosen.image), **columns} if inside else columns


def _read_paths(shards: Sequence[Shard], image: str) -> pa.Array:
    """Return the names of files inside of the images; a row without one is null."""
    parts: list[pa.Array] = []
    for shard in shards:
        with opened(shard) as file:
            images = file.read(columns=[f"{image}.{PATH}"])[image]
            parts += [pc.struct_field(chunk, PATH).cast(pa.string()) for chunk in images.chunks]
    return pa.concat_arrays(parts)


def _read_names(shards: Sequence[Shard], column: str) -> pa.Array:
    parts: list[pa.Array] = []
    for shard in shards:
        with opened(shard) as file:
            if file.schema_arrow.names.count(column) != 1:
                remedy = f"{shard.path.name} has no column {column!r}: write it to all files"
                raise InputError(shard.key, str(shard.path), remedy)
            # As text: the same key may be a number in one file and text in another.
            parts += file.read(columns=[column])[column].cast(pa.string()).chunks
    return pa.concat_arrays(parts)


def _digest(path: Path) -> str:
    try:
        return digest(path)
    except OSError as error:
        remedy = f"cannot be read ({error.strerror}): restore the file or its permission"
        raise InputError("data.train", str(path), remedy) from error


def _read_labels(shards: Sequence[Shard], label: str) -> Labels:
    parts = [_read_shard_labels(shard, label) for shard in shards if shard.rows]
    _refuse_mixed_kinds(parts, label)
    return np.concatenate(parts)


def _refuse_mixed_kinds(parts: Sequence[Labels], label: str) -> None:
    if len({part.dtype.kind for part in parts}) > 1:
        raise InputError("data.label", label, "numbers in one file, text in another: use one kind")


def _read_shard_labels(shard: Shard, label: str) -> Labels:
    with opened(shard) as file:
        column = file.read(columns=[label]).column(label).combine_chunks()
    if column.null_count:
        row = int(np.flatnonzero(column.is_null())[0])
        reason = f"row {row} of {shard.path.name} has no label: fill or drop it"
        raise InputError("data.label", label, reason)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        numbers: Labels = column.cast(pa.int64(), safe=False).to_numpy()
        return numbers
    if is_text(column.type):
        return np.array(column.to_pylist(), dtype=str)
    remedy = "labels are integers or text, cast the column"
    raise InputError("data.label", label, f"holds {column.type}: {remedy}")


def _classes(shards: Sequence[Shard], labels: Labels, label: str) -> tuple[str, ...]:
    names = shards[0].names
    for shard in shards:
        if shard.names != names:
            reason = f"{shard.path.name} and {shards[0].path.name} have different class names"
            raise InputError("data.label", label, f"{reason}: write both with the same names")
    if names is not None:
        return names
    distinct = np.unique(labels)
    if distinct.dtype.kind == "i" and not np.array_equal(distinct, np.arange(len(distinct))):
        reason = f"labels are {_shown(distinct)}: without class names they must be 0..C-1, no gaps"
        raise InputError("data.label", label, f"{reason}; renumber them or store them as text")
    return tuple(map(str, distinct))


def _refuse_other_names(shards: Sequence[Shard], test: Named, classes: tuple[str, ...]) -> None:
    for shard in shards:
        if shard.names is not None and shard.names != classes:
            reason = f"classes are {_shown(shard.names)}, those of data.train {_shown(classes)}"
            raise InputError("data.test", test, f"{reason}: use parts of one data set")


def _indexes(key: str, value: Named, labels: Labels, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return labels as indexes into `classes`; integer labels already are indexes."""
    distinct, inverse = np.unique(labels, return_inverse=True)
    if distinct.dtype.kind == "i":
        index = distinct.astype(np.int64)
        index[index >= len(classes)] = -1
    else:
        places = {name: place for place, name in enumerate(classes)}
        index = np.array([places.get(str(name), -1) for name in distinct], np.int64)
    outside = index < 0
    if outside.any():
        row = int(np.flatnonzero(outside[inverse])[0])
        reason = f"row {row} has label {labels[row]}, outside the {counted(len(classes), 'class')}"
        raise InputError(key, value, f"{reason} ({_shown(classes)}): correct or drop it")
    return index[inverse]


def _shown(labels: Sequence[str] | NDArray[Any]) -> str:
    return ", ".join(map(str, labels[:SHOWN])) + (", ..." if len(labels) > SHOWN else "")


def _read_images(
    train: Sequence[Shard], test: Sequence[Shard], image: str, size: int | None
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return all images, and in words how many of them were changed."""
    if size is None:
        return _collected([*train, *test], image, _common_shape(train, test, image), decode), []
    changes = Counter[str]()
    squares = partial(decode_squares, size=size, changes=changes)
    images_NCHW = _collected([*train, *test], image, (COLOURS, size, size), squares)
    if not changes.total():
        return images_NCHW, []
    each = [f"{counted(number, 'image')} {what}" for what, number in sorted(changes.items())]
    return images_NCHW, [f"data.size = {size}: of {len(images_NCHW)} images, {', '.join(each)}"]


def _collected(
    shards: Sequence[Shard], image: str, shape: Shape, decoder: Decoder
) -> NDArray[np.uint8]:
    # Allocated once, so that no part or batch is in memory twice.
    images_NCHW = np.empty((sum(shard.rows for shard in shards), *shape), np.uint8)
    filled = 0
    for shard in shards:
        for batch_BCHW in _decoded(shard, image, shape, decoder):
            images_NCHW[filled : filled + len(batch_BCHW)] = batch_BCHW
            filled += len(batch_BCHW)
    return images_NCHW


def _common_shape(train: Sequence[Shard], test: Sequence[Shard], image: str) -> Shape:
    shape = _first_shape(train, image)
    if test and (other := _first_shape(test, image)) != shape:
        both = f"images are {describe_shape(other)}, those of data.train {describe_shape(shape)}"
        remedy = "(channels x height x width): use parts of one data set, or set data.size"
        raise InputError("data.test", str(test[0].path), f"{both} {remedy}")
    return shape


def _first_shape(shards: Sequence[Shard], image: str) -> Shape:
    first = next(shard for shard in shards if shard.rows)
    _, channels, height, width = next(_decoded(first, image, None, decode, batch=1)).shape
    return channels, height, width


def _decoded(
    shard: Shard, image: str, expected: Shape | None, decoder: Decoder, batch: int = BATCH
) -> Iterator[NDArray[np.uint8]]:
    return _each(shard, image, lambda column: decoder(column, shard.folder, expected), batch)


def _each(
    shard: Shard, image: str, use: Callable[[pa.Array], T], batch: int = BATCH
) -> Iterator[T]:
    """Yield the result of `use` for each batch of images; errors name the row of the file."""
    first = 0
    with opened(shard) as file:
        for rows in file.iter_batches(batch, columns=[image]):
            try:
                made = use(rows.column(image))
            except PixelError as error:
                where = "" if error.row is None else f"row {first + error.row} of "
                reason = f"{where}{shard.path.name} {error.reason}"
                raise InputError("data.image", image, reason) from error
            yield made
            first += len(rows)


def _linked(shard: Shard, image: str) -> list[Path]:
    if _all_inside(shard, image):
        return []
    batches = _each(shard, image, lambda column: linked_files(column, shard.folder))
    return [path for batch in batches for path in batch]


def _all_inside(shard: Shard, image: str) -> bool:
    """Return whether no image is a link; if the footer counts nulls, no pixel is read."""
    with opened(shard) as file:
        if not pa.types.is_struct(file.schema_arrow.field(image).type):
            return True
        groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    return all(_count_nulls(group, image) == 0 for group in groups)


def _count_nulls(row_group: pq.RowGroupMetaData, image: str) -> int | None:
    columns = [row_group.column(i) for i in range(row_group.num_columns)]
    for column in columns:
        if column.path_in_schema == f"{image}.bytes" and column.statistics is not None:
            return int(column.statistics.null_count) if column.statistics.has_null_count else None
    return None
