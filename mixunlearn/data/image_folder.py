"""Folders of image files, one folder for each class: the layout of ImageNet.

ROOT/train/CLASS/FILE, and optionally a test part: ROOT/test/CLASS/FILE, or else ROOT/val/...
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.names import printable, typed_path
from mixunlearn.data.pictures import Pictures, file_names
from mixunlearn.data.pixels import PixelError, decode_square
from mixunlearn.errors import InputError
from mixunlearn.regular import open_regular, refuse_irregular

SIZE = 224  # pixels a side, the usual size for ImageNet
TEST_PARTS = ("test", "val")  # ImageNet's own `test` has no class folders, so it is not used
FEWEST = 2  # classes
KERNEL = frozenset({Path("/proc"), Path("/sys")})  # mount points without a disk
LAYOUT = "put the images of each class into train/CLASS, at least two classes"


def load(root: str, size: int = SIZE) -> Pictures:
    """Return the images in a folder, to be decoded as (3, size, size).

    Classes are the sorted names of the folders in ROOT/train. Files may be in subfolders; hidden
    files, and files outside the class folders, are ignored.

    Args:
        root: the folder.
        size: the shorter side is scaled to this number of pixels, and the centre is cut out.

    Raises:
        InputError: the folder has another layout or a class without files, or cannot be read.
    """
    listing = _list(root)
    return Pictures(
        names=listing.names,
        labels_M=np.array(listing.labels, np.int64),
        classes=[printable(name) for name in listing.classes],
        n_train=listing.n_train,
        source="image_folder",
        shape=(3, size, size),
        decode=partial(_decode, listing, size),
    )


def contents(root: str, **_: object) -> list[str]:
    """Return a digest of all names, sizes and times: reading every file would take too long.

    Raises:
        InputError: as for `load`.
    """
    return [_list(root).stamps.hexdigest()]


def row_names(dataset: Dataset, root: str, **_: object) -> Mapping[str, Callable[[], pa.Array]]:
    """Return the paths of the training images, relative to the folder; see `Dataset`.

    Args:
        dataset: the images of the folder.
        root: the folder.

    Raises:
        InputError: as for `load`, when the paths are read.
    """
    return {"path": lambda: pa.array(file_names(dataset, _list(root).names), pa.string())}


@dataclass(kw_only=True)
class _Listing:
    """All files of a folder of images.

    Attributes:
        folder: their root.
        classes: names of the folders in its `train`.
        names: of the files, relative to the root, in the order of the data set.
        labels: the class of each file.
        n_train: number of files in `train`; they come first.
        stamps: digest of names, sizes and times.
    """

    folder: Path
    classes: list[str]
    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    n_train: int = 0
    stamps: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, part: str, name: str) -> int:
        """Add the files of a class to a part; return their number."""
        before, prefix = len(self.names), f"{self.folder}{os.sep}"
        for entry in _files(self.folder / part / name):
            status = entry.stat()
            refuse_irregular(status, entry.path)
            self.names.append(entry.path.removeprefix(prefix))
            stamp = f"{self.names[-1]}\0{status.st_size}\0{status.st_mtime_ns}\0"
            # Names may contain bytes that are not UTF-8, which `str.encode` refuses.
            self.stamps.update(os.fsencode(stamp))
        added = len(self.names) - before
        self.labels += [self.classes.index(name)] * added
        return added


def _list(root: str) -> _Listing:
    folder = typed_path("data.root", root)
    try:
        listing = _Listing(folder=folder, classes=_classes(root, folder))
        _add_part(root, "train", listing)
        listing.n_train = len(listing.names)
        for part in TEST_PARTS:
            if _subfolders(folder / part):
                _add_part(root, part, listing)
                break
    except OSError as error:
        remedy = f"{error.filename} cannot be read ({error.strerror}): restore or remove it"
        raise InputError("data.root", root, remedy) from error
    return listing


def _classes(root: str, folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InputError("data.root", root, "no such folder: correct the path")
    if not (folder / "train").is_dir():
        raise InputError("data.root", root, f"has no folder train: {LAYOUT}")
    classes = _subfolders(folder / "train")
    if len(classes) < FEWEST:
        found = f"one class, {printable(classes[0])}" if classes else "no class folders"
        raise InputError("data.root", root, f"train has {found}: {LAYOUT}")
    return classes


def _add_part(root: str, part: str, listing: _Listing) -> None:
    for name in _subfolders(listing.folder / part):
        place = f"{part}/{printable(name)}"
        if name not in listing.classes:
            remedy = "is not a class of train: rename or remove it"
            raise InputError("data.root", root, f"{place} {remedy}")
        if not listing.add(part, name):
            remedy = "has no files: remove it, or put the images of the class there"
            raise InputError("data.root", root, f"{place} {remedy}")


def _subfolders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder; none if it does not exist."""
    if not folder.is_dir():
        return []
    return [entry.name for entry in _entries(folder) if entry.is_dir()]


def _files(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator["os.DirEntry[str]"]:
    """Yield all files in a folder and its subfolders, always in the same order.

    Raises:
        OSError: it cannot be read, a link in it leads to a folder above it, or the kernel makes
            its files up: both would not end.
    """
    real = folder.resolve()
    if real in above:
        raise OSError(errno.ELOOP, "it is within itself", str(folder))
    if KERNEL.intersection((real, *real.parents)):
        raise OSError(errno.EINVAL, "not a folder on a disk", str(folder))
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _files(Path(entry.path), above | {real})
        else:
            yield entry


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    """Return the entries of a folder, sorted by name, without hidden ones."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    return sorted(visible, key=lambda entry: entry.name)


def _decode(listing: _Listing, size: int, picture: int) -> NDArray[np.uint8]:
    with open_regular(listing.folder / listing.names[picture]) as file:
        # Files of the kernel claim to be empty; reading one can wait for ever.
        if not os.fstat(file.fileno()).st_size:
            raise PixelError(None, "is empty")
        return decode_square(file, size)
