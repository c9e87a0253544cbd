"""Decodes image columns of any supported layout into uint8 arrays.

Shapes: N images, C channels, H W pixels.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mixunlearn.regular import MIB, read_regular, require_regular

# An explicit list, because some of Pillow's other formats start a program to decode.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
# Pillow modes of 8 bits a channel that are kept; others are converted or refused.
KEPT = {"L", "LA", "RGB", "RGBA"}
CONVERTED = {"1": "L", "P": "RGB", "PA": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
ORIENTATION = 0x0112  # EXIF tag: the picture must be rotated, its pixels are not
BYTE, SIXTEEN_BITS = 255, 65535
BITS = 8
LARGEST = 256 * MIB  # bytes of an encoded image
# What the fields of a struct may hold.
FIELDS: Mapping[str, Sequence[Callable[[pa.DataType], bool]]] = {
    "bytes": (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
    "path": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
}
RGBA = 4  # the most channels that an image in Pillow's modes has
FLAT, COLOUR = 2, 3  # axes of an image stored as H, W and as H, W, C or C, H, W

Shape = tuple[int, int, int]


class PixelError(ValueError):
    """An image cannot be used.

    Args:
        row: its row in the column, `None` for the whole column.
        reason: what is wrong and what to do, a text that can follow "row 3".
    """

    def __init__(self, row: int | None, reason: str) -> None:
        super().__init__(reason)
        self.row = row
        self.reason = reason


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type of Arrow is one of its three for text."""
    return any(check(kind) for check in FIELDS["path"])


def decode(
    column: pa.Array, folder: Path | None, expected: Shape | None = None
) -> NDArray[np.uint8]:
    """Return the images of `column` as (N, C, H, W) uint8.

    Args:
        column: structs of `bytes` and `path`, encoded images, or nested lists of numbers:
            (H, W), (H, W, C) or (C, H, W); the smaller of the first and the last axis is C.
            Integers lie in 0..255, floats in [0, 1], booleans are black and white.
        folder: the folder that paths are relative to; `None`: there must be none.
        expected: (C, H, W) that every image must have; `None` means the first image's shape.

    Raises:
        PixelError: an image is missing, broken, of another size or out of range.
    """
    column = _stored(column)
    if _is_list(column.type):
        images_NCHW = _decode_lists(column)
        _refuse_other_shape(0, _shape(images_NCHW[0]), expected)
        return images_NCHW
    return _stack(_open_all(_encoded(column, folder), _open), expected)


def decode_squares(
    column: pa.Array,
    folder: Path | None,
    expected: Shape | None = None,
    *,
    size: int,
    changes: Counter[str],
) -> NDArray[np.uint8]:
    """Return images of any size and mode as (N, 3, size, size) uint8; see `decode_square`.

    Args:
        column: as for `decode`.
        folder: as for `decode`.
        expected: not needed.
        size: the number of pixels a side.
        changes: how many images were resized, and how many converted to RGB, is added here.

    Raises:
        PixelError: an image is missing, broken or out of range.
    """
    column = _stored(column)
    square = partial(_square, size=size, changes=changes)
    if _is_list(column.type):
        return np.stack([square(_as_picture(column, row)) for row in range(len(column))])

    def opened(content: bytes) -> NDArray[np.uint8]:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            return square(image)

    return np.stack(list(_open_all(_encoded(column, folder), opened)))


def _stored(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _encoded(column: pa.Array, folder: Path | None) -> Iterator[bytes]:
    """Return the encoded images of a column."""
    if pa.types.is_struct(column.type):
        return _struct_contents(column, folder)
    if not any(check(column.type) for check in FIELDS["bytes"]):
        reason = f"holds {column.type}: images are bytes, a struct of bytes, or lists"
        raise PixelError(None, reason)
    _refuse_nulls(column, 1, "has no image: fill or drop it")
    return iter(column.to_pylist())


def _as_picture(column: pa.Array, row: int) -> Image.Image:
    """Return one image of a column of lists, which may differ in size."""
    try:
        (image_CHW,) = _decode_lists(column.slice(row, 1))
    except PixelError as error:
        raise PixelError(row if error.row is not None else None, error.reason) from error
    if len(image_CHW) > RGBA:
        raise PixelError(row, f"has {len(image_CHW)} channels: data.size needs 1 to {RGBA}")
    image_HWC = image_CHW.transpose(1, 2, 0)
    return Image.fromarray(image_HWC[..., 0] if len(image_CHW) == 1 else image_HWC)


def decode_square(file: BinaryIO, size: int) -> NDArray[np.uint8]:
    """Return the centre of any image, its shorter side scaled to `size`: (3, size, size) uint8.

    An animation gives its first frame; transparency is dropped, 16 bits become 8.

    Raises:
        PixelError: the file is not an image, or is incomplete.
        OSError: the file cannot be read.
    """
    try:
        with Image.open(file, formats=FORMATS) as opened:
            return _square(opened, size, Counter())
    except UnidentifiedImageError as error:
        raise PixelError(None, f"is not an image in {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow raises a dozen types of errors for broken files
        _raise_of_machine(error)
        raise PixelError(None, f"cannot be decoded ({error})") from error


def _square(opened: Image.Image, size: int, changes: Counter[str]) -> NDArray[np.uint8]:
    image = _in_colour(ImageOps.exif_transpose(opened))
    changes["converted to RGB"] += opened.mode != "RGB"
    changes["resized"] += image.size != (size, size)
    fitted = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(fitted).transpose(2, 0, 1)


def _raise_of_machine(error: Exception) -> None:
    """Raise an error again that is not caused by the content of an image.

    Otherwise, an image would be left out because memory was short for a moment.
    """
    # Pillow's own errors have no errno.
    if isinstance(error, MemoryError) or getattr(error, "errno", None):
        raise error
    if isinstance(error, OSError) and "out of memory" in str(error):
        raise MemoryError(str(error)) from error


def linked_files(column: pa.Array, folder: Path | None) -> list[Path]:
    """Return the image files that `column` refers to instead of holding them.

    Raises:
        PixelError: such a file does not exist.
    """
    linked = []
    for row, (content, path) in enumerate(zip(*_fields(column), strict=True)):
        if content is None and path is not None:
            file = _linked(row, folder, path)
            with _explained(row, file):
                require_regular(file)
            linked.append(file)
    return linked


def describe_shape(shape: Shape) -> str:
    """Return (C, H, W) for an error message."""
    return "x".join(map(str, shape))


def _fields(column: pa.StructArray) -> tuple[list[bytes | None], list[str | None]]:
    names = [field.name for field in column.type if field.name in {"bytes", "path"}]
    if not names:
        raise PixelError(None, f"holds {column.type}: a struct of images has bytes or path")
    for name in names:
        kind, allowed = column.type.field(name).type, FIELDS[name]
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not any(is_kind(kind) for is_kind in (*allowed, pa.types.is_null)):
            raise PixelError(
                None, f"has a field {name} of {kind}: paths are text, images are bytes"
            )
    columns = {name: pc.struct_field(column, name).to_pylist() for name in names}
    nothing = [None] * len(column)
    return columns.get("bytes", nothing), columns.get("path", nothing)


def _linked(row: int, folder: Path | None, path: str) -> Path:
    if folder is None:
        # What others wrote must not name files of this machine.
        reason = f"refers to the file {path!r}: at an address, images are inside the Parquet file"
        raise PixelError(row, reason)
    return folder / path


def _struct_contents(column: pa.StructArray, folder: Path | None) -> Iterator[bytes]:
    for row, (content, path) in enumerate(zip(*_fields(column), strict=True)):
        if content is not None:
            yield content
        elif path is None:
            raise PixelError(row, "has neither bytes nor a path: fill or drop it")
        else:
            yield _read_file(row, _linked(row, folder, path))


def _read_file(row: int, path: Path) -> bytes:
    with _explained(row, path):
        return read_regular(path, LARGEST)


@contextmanager
def _explained(row: int, path: Path) -> Iterator[None]:
    """Explain why the file that a row refers to cannot be read."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: there is NUL in the path
        why = getattr(error, "strerror", None) or error
        reason = f"refers to {str(path)!r}, which cannot be read ({why}): restore the file"
        raise PixelError(row, reason) from error


def _open_all(
    contents: Iterator[bytes], open_one: Callable[[bytes], NDArray[np.uint8]]
) -> Iterator[NDArray[np.uint8]]:
    for row, content in enumerate(contents):
        try:
            yield open_one(content)
        except UnidentifiedImageError as error:
            reason = f"is not an image in {', '.join(FORMATS)}: replace or drop it"
            raise PixelError(row, reason) from error
        except Exception as error:  # Pillow raises a dozen types of errors for broken files
            _raise_of_machine(error)
            reason = f"cannot be decoded ({error}): replace or drop it"
            raise PixelError(row, reason) from error


def _open(content: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(content), formats=FORMATS) as opened:
        image: Image.Image = opened
        # Only then, because `exif_transpose` copies every image.
        if opened.getexif().get(ORIENTATION):
            image = ImageOps.exif_transpose(opened)
        if image.mode in CONVERTED:
            image = image.convert(CONVERTED[image.mode])
        if image.mode not in KEPT:
            raise ValueError(f"mode {image.mode}, only 8 bits a channel are supported")
        pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == FLAT else pixels.transpose(2, 0, 1)


def _in_colour(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > SIXTEEN_BITS:
            raise ValueError(f"mode {image.mode}, only 8 and 16 bits a channel are supported")
        image = Image.fromarray((values >> BITS).astype(np.uint8))
    if image.mode in {"P", "PA"}:
        image = image.convert("RGBA")  # avoids Pillow's warning about transparent palettes
    return image if image.mode == "RGB" else image.convert("RGB")


def _stack(images: Iterator[NDArray[np.uint8]], expected: Shape | None) -> NDArray[np.uint8]:
    same = []
    for row, image_CHW in enumerate(images):
        expected = expected or _shape(image_CHW)
        _refuse_other_shape(row, _shape(image_CHW), expected)
        same.append(image_CHW)
    return np.stack(same)


def _shape(image_CHW: NDArray[np.uint8]) -> Shape:
    channels, height, width = image_CHW.shape
    return channels, height, width


def _refuse_other_shape(row: int, shape: Shape, expected: Shape | None) -> None:
    if expected and shape != expected:
        both = f"is {describe_shape(shape)}, the first image {describe_shape(expected)}"
        remedy = "set data.size, or convert all to one size and mode"
        raise PixelError(row, f"{both} (channels x height x width): {remedy}")


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _refuse_nulls(column: pa.Array, per_row: int, reason: str) -> None:
    if column.null_count:
        first = int(np.flatnonzero(column.is_null())[0])
        raise PixelError(first // per_row, reason)


def _decode_lists(column: pa.Array) -> NDArray[np.uint8]:
    rows, sizes, per_row = len(column), [], 1
    while _is_list(column.type):
        size = _common_length(column, per_row)
        sizes.append(size)
        per_row *= size
        column = column.flatten()
    if len(sizes) not in {FLAT, COLOUR}:
        raise PixelError(None, f"holds lists of {len(sizes)} axes: images are (H, W) or (H, W, C)")
    _refuse_nulls(column, per_row, "has a pixel that is null: fill or drop it")
    return _channels_first(_to_bytes(column, per_row).reshape(rows, *sizes))


def _common_length(column: pa.Array, per_row: int) -> int:
    _refuse_nulls(column, per_row, "has a list that is null: fill or drop it")
    lengths = pc.list_value_length(column).to_numpy()
    odd = np.flatnonzero(lengths != lengths[0])
    if len(odd):
        raise PixelError(
            int(odd[0]) // per_row,
            "differs in size: set data.size, or convert all images to one size",
        )
    if not lengths[0]:
        raise PixelError(0, "has no pixels: fill or drop it")
    return int(lengths[0])


def _to_bytes(values: pa.Array, per_row: int) -> NDArray[np.uint8]:
    kind = values.type
    numbers: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(kind):
        return numbers.astype(np.uint8) * np.uint8(BYTE)
    if pa.types.is_integer(kind):
        rule = "integers lie in 0..255"
        _refuse_outside(numbers, BYTE, per_row, rule)
        return numbers.astype(np.uint8)
    if pa.types.is_floating(kind):
        rule = "floats are finite and lie in [0, 1]; store 0..255 as integers"
        _refuse_outside(numbers, 1, per_row, rule)
        return np.rint(numbers.astype(np.float32) * BYTE).astype(np.uint8)
    raise PixelError(None, f"holds lists of {kind}: pixels are integers, floats or booleans")


def _refuse_outside(numbers: NDArray[Any], highest: int, per_row: int, rule: str) -> None:
    # Written as a negation, so that NaN counts as outside too.
    outside = np.flatnonzero(~((numbers >= 0) & (numbers <= highest)))
    if len(outside):
        first = int(outside[0])
        raise PixelError(first // per_row, f"has a pixel of {numbers[first]}: {rule}")


def _channels_first(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if images.ndim == 1 + FLAT:
        return images[:, None]
    channels_last = images.shape[-1] < images.shape[1]
    return images.transpose(0, 3, 1, 2) if channels_last else images
