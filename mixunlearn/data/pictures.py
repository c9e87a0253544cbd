"""Data sets too large for memory: pictures are decoded directly into the data set's file.

The file grows under a temporary name, next to a note of its content. If the process is killed,
only the part that it was decoding is lost.

Shapes: M pictures, N of them that can be decoded, C channels, H W pixels.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mixunlearn.atomic import replacing
from mixunlearn.data import arrow
from mixunlearn.data.around import pixels_start, surround
from mixunlearn.data.arrow import Dataset, make_dataset
from mixunlearn.data.names import printable
from mixunlearn.data.pixels import PixelError, Shape
from mixunlearn.errors import CorruptError, InputError, MissingError, MixUnlearnError
from mixunlearn.wording import counted

# Decoded at a time: limits memory, and the loss if the process is killed.
PART, PART_BYTES = 256, 64 * 2**20  # pictures, and bytes of them

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Labelled pictures that are not decoded yet, the source's training part first.

    Args:
        names: of the M pictures.
        labels_M: int64, indexes into `classes`.
        classes: name of each class.
        n_train: pictures [0, n_train) are the training part, all others the test part.
        source: name of the source.
        shape: (C, H, W) of all images.
        decode: gets a picture's number and returns its image, uint8; several threads call it at
            the same time. A `PixelError` skips the picture. Any other error ends the import; the
            next import continues there.
    """

    names: Sequence[str]
    labels_M: NDArray[np.int64]
    classes: Sequence[str]
    n_train: int
    source: str
    shape: Shape
    decode: Callable[[int], NDArray[np.uint8]]

    def attempt(self, picture: int) -> NDArray[np.uint8] | str:
        """Return the image of a picture, or the reason why it cannot be decoded.

        Raises:
            MixUnlearnError: its file cannot be read; its content may be fine.
        """
        try:
            image_CHW = self.decode(picture)
        except PixelError as error:
            return error.reason
        except OSError as error:
            remedy = f"cannot be read ({error.strerror}): restore it or its permission"
            name = printable(self.names[picture])
            raise MixUnlearnError(f"{name} {remedy}, and run this again") from error
        if image_CHW.dtype != np.uint8 or image_CHW.shape != self.shape:
            found = f"{image_CHW.dtype} of shape {image_CHW.shape}"
            raise ValueError(f"{self.names[picture]} became {found}, not uint8 of {self.shape}")
        return image_CHW


def collect(pictures: Pictures, path: Path) -> Dataset:
    """Return the data set in `path`, after decoding the pictures that are still missing.

    One process decodes while others wait; only one part is in memory at a time.

    Raises:
        InputError: no picture of the training part can be decoded; nothing was written.
        MixUnlearnError: the disk is too full, or the file cannot be written.
    """
    growing = _Growing(pictures, path)
    try:
        with suppress(MissingError, CorruptError):
            return arrow.read(path)
        growing.require()  # before the folder is made
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes must not append to the same unfinished file.
        with FileLock(path.with_name(f".{path.name}.lock")):
            with suppress(MissingError, CorruptError):
                return arrow.read(path)  # another process was faster
            growing.complete()
        return arrow.read(path)
    except OSError as error:
        remedy = "free space there or choose another --home"
        raise MixUnlearnError(f"{path} cannot be written ({error}): {remedy}") from error


def file_names(dataset: Dataset, names: Sequence[str]) -> list[str]:
    """Return the name of the file of each row in the training part.

    Args:
        dataset: made of pictures.
        names: of all pictures of its source, also those that were skipped.

    Raises:
        MixUnlearnError: the data set was imported by a version that did not keep the places.
    """
    if len(dataset.gaps) != len(dataset.skipped):
        what = "was imported by an earlier version, which did not keep the places of skipped files"
        raise MixUnlearnError(f"{dataset.path} {what}: delete it and run this again")
    gaps = set(dataset.gaps)
    decoded = (name for place, name in enumerate(names) if place not in gaps)
    return [printable(name) for name in islice(decoded, dataset.n_train)]


class _Growing:
    """The unfinished file: its content so far, and how to complete it.

    Attributes:
        done: number of pictures that were tried.
        skipped: pictures that cannot be decoded, with the reason.
        tried: results of `require`, which need not be made again.
    """

    def __init__(self, pictures: Pictures, path: Path) -> None:
        self.pictures, self.path = pictures, path
        self.pixels = path.with_name(f".{path.name}.part")
        self.note = path.with_name(f".{path.name}.note")
        self.start = pixels_start(pictures.shape)
        self.image_bytes = int(np.prod(pictures.shape))
        self.done, self.skipped = 0, dict[int, str]()
        self.tried = dict[int, NDArray[np.uint8] | str]()

    @property
    def size(self) -> int:
        """Return the number of bytes that the file must have by now."""
        return self.start + (self.done - len(self.skipped)) * self.image_bytes

    def require(self) -> None:
        """Check that there is room, and a picture of the training part that can be decoded."""
        self._resume()
        self._require_room()
        known: dict[int, NDArray[np.uint8] | str] = {**self.skipped}
        for picture in range(self.pictures.n_train):
            if picture < self.done and picture not in self.skipped:
                return  # decoded by an earlier process
            if picture >= self.done:
                known[picture] = self.tried[picture] = self.pictures.attempt(picture)
            if not isinstance(known[picture], str):  # with the first one, as a rule
                return
        all_of_them = counted(self.pictures.n_train, "picture")
        first = f"{printable(self.pictures.names[0])} {known[0]}"
        what = f"none of {all_of_them} can be decoded (the first: {first})"
        raise InputError("data.source", self.pictures.source, f"{what}; replace them")

    def complete(self) -> None:
        """Decode the missing pictures, then give the file its final name."""
        self._resume()
        self._require_room()
        with self.pixels.open("ab") as file:
            file.truncate(self.size)  # a killed process may have written more than its note says
            self._decode(file)
        # The note is deleted last: a process that is killed before that can repeat these steps.
        surround(self._dataset(), self.pixels)
        self.pixels.replace(self.path)
        self.note.unlink()  # last: without its note, an unfinished file is decoded from the start

    def _resume(self) -> None:
        """Continue from an earlier process's note, if the file holds all pixels it mentions."""
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            note = json.loads(self.note.read_text())
            # Another version of Arrow may expect the pixels at another offset.
            if note["start"] == self.start:
                self.done, self.skipped = note["done"], dict(note["skipped"])
        if not self.pixels.exists() or self.pixels.stat().st_size < self.size:
            self.done, self.skipped = 0, {}

    def _require_room(self) -> None:
        left = (len(self.pictures.names) - self.done) * self.image_bytes
        folder = next(parent for parent in self.path.absolute().parents if parent.exists())
        free = shutil.disk_usage(folder).free
        if left > free:
            sizes = f"{left / 2**30:.1f} GiB more, {free / 2**30:.1f} are free"
            remedy = "free space there, choose another --home, or take fewer or smaller images"
            raise MixUnlearnError(f"{self.path} needs {sizes}: {remedy}")

    def _decode(self, file: BinaryIO) -> None:
        total = len(self.pictures.names)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow releases the GIL while decoding
            while self.done < total:
                count = min(PART, max(1, PART_BYTES // self.image_bytes))
                part = range(self.done, min(self.done + count, total))
                for picture, image in zip(part, pool.map(self._attempt, part), strict=True):
                    if isinstance(image, str):
                        self.skipped[picture] = image
                    else:
                        file.write(np.ascontiguousarray(image).data)
                self.done = part.stop
                self._keep(file)
                logger.info("%s: %d of %d decoded", self.pictures.source, self.done, total)

    def _attempt(self, picture: int) -> NDArray[np.uint8] | str:
        found = self.tried.pop(picture, None)
        return self.pictures.attempt(picture) if found is None else found

    def _keep(self, file: BinaryIO) -> None:
        """Sync the file to the disk, then write the note of its content."""
        # In this order: a note must not count pixels that a power cut could still take.
        file.flush()
        os.fsync(file.fileno())
        # As pairs, because JSON would turn the numbers of the pictures into text as keys.
        note = {"start": self.start, "done": self.done, "skipped": list(self.skipped.items())}
        with replacing(self.note) as temporary:
            temporary.write_text(json.dumps(note))

    def _dataset(self) -> Dataset:
        """Return the data set of the decoded pictures, mapped from the file."""
        pictures = self.pictures
        kept_M = np.ones(len(pictures.names), bool)
        kept_M[list(self.skipped)] = False
        reasons = [f"{printable(pictures.names[i])} {why}" for i, why in self.skipped.items()]
        n_train = int(kept_M[: pictures.n_train].sum())
        shape = (int(kept_M.sum()), *pictures.shape)
        return make_dataset(
            np.memmap(self.pixels, np.uint8, "r", self.start, shape),
            pictures.labels_M[kept_M],
            classes=pictures.classes,
            n_train=n_train,
            source=pictures.source,
            skipped=reasons,
            gaps=list(self.skipped),
        )
