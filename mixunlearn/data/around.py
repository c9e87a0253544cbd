"""A data set file around pixels that are already in it: large data is written only once."""

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mixunlearn.data.arrow import Dataset, make_dataset, view, write_batch

if TYPE_CHECKING:
    from typing_extensions import Buffer  # `collections.abc` has it from Python 3.12 on


def pixels_start(shape: tuple[int, int, int]) -> int:
    """Return the byte offset of the pixels in the file of a data set with (C, H, W) images."""
    sink = pa.BufferOutputStream()
    image = np.zeros((1, *shape), np.uint8)
    # Measured on a file of one image: the offset is up to Arrow and its version.
    one = make_dataset(image, np.zeros(1, np.int64), classes=("",), n_train=1, source="")
    write_batch(one, sink)
    content = sink.getvalue()
    return view(pa.BufferReader(content)).images_NCHW.ctypes.data - int(content.address)


def surround(dataset: Dataset, path: Path) -> None:
    """Write everything except the pixels of `dataset` to the file that they are mapped from.

    The result is the complete data set file; no pixel is copied or loaded into memory.

    Args:
        dataset: its pixels begin at `pixels_start` in the file.
        path: the file.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("r+b") as file:
        write_batch(dataset, _Around(file, dataset.images_NCHW))
        file.flush()
        os.fsync(file.fileno())


class _Around:
    """A file that already holds the pixels: Arrow's other output is written around them.

    Args:
        file: positioned at its start.
        pixels: the array that is mapped from it.
    """

    closed = False  # Arrow asks for it before it writes

    def __init__(self, file: IO[bytes], pixels: NDArray[np.uint8]) -> None:
        self.file, self.pixels = file, pixels

    def write(self, content: "Buffer") -> None:
        # Arrow passes the pixels as one buffer; its address shows that it is already in the file.
        if getattr(content, "address", None) == self.pixels.ctypes.data:
            assert self.file.tell() == pixels_start(self.pixels.shape[1:])
            self.file.seek(self.pixels.nbytes, os.SEEK_CUR)
        else:
            self.file.write(content)
