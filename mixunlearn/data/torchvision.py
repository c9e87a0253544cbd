"""The data sets that torchvision can download: MNIST, Fashion-MNIST, CIFAR, SVHN.

torchvision has their addresses and checksums, and downloads them. This module reads them:
torchvision's readers unpickle CIFAR's batches (the binary version is used here instead), and do not
check the checksums of MNIST's files.

Shapes: N images, C channels, H W pixels.
"""

import gzip
import hashlib
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixunlearn.data import arrow
from mixunlearn.data.arrow import Dataset, make_dataset
from mixunlearn.data.names import typed_path
from mixunlearn.data.packages import need
from mixunlearn.errors import InputError, MixUnlearnError

DIGITS = tuple("0123456789")
MNIST_PARTS = ("train", "t10k")
SVHN_PARTS = ("train", "test")
CIFAR_SHAPE = (3, 32, 32)

Images = NDArray[np.uint8]
Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A file as its authors publish it.

    Args:
        name: of the file.
        md5: of its content.
        addresses: where it can be downloaded, tried in this order.
    """

    name: str
    md5: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Cifar:
    """A binary version of CIFAR, as https://www.cs.toronto.edu/~kriz/cifar.html describes it.

    Args:
        raw: the archive.
        train: its members with training images.
        test: its member with test images.
        names: its member with one class name per line.
        labels: number of bytes before an image's pixels; the last of them is its class.
    """

    raw: Raw
    train: tuple[str, ...]
    test: str
    names: str
    labels: int


def _archive(name: str, md5: str) -> Raw:
    return Raw(name=name, md5=md5, addresses=(f"https://www.cs.toronto.edu/~kriz/{name}",))


CIFARS = {
    "cifar10": Cifar(
        raw=_archive("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
        train=tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
        test="cifar-10-batches-bin/test_batch.bin",
        names="cifar-10-batches-bin/batches.meta.txt",
        labels=1,
    ),
    "cifar100": Cifar(
        raw=_archive("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
        train=("cifar-100-binary/train.bin",),
        test="cifar-100-binary/test.bin",
        names="cifar-100-binary/fine_label_names.txt",
        labels=2,
    ),
}


def load_mnist(root: str | None = None, download: bool = False) -> Dataset:
    """Return MNIST: 60,000 + 10,000 digits of 28x28.

    Args:
        root: folder of the four files, as published; by default a folder of this machine.
        download: download the missing files.

    Raises:
        InputError: a file is missing or differs from the published one; torchvision is not
            installed.
        MixUnlearnError: a download failed.
    """
    return _mnist("mnist", "MNIST", DIGITS, root, download)


def load_fashion_mnist(root: str | None = None, download: bool = False) -> Dataset:
    """Return Fashion-MNIST: 60,000 + 10,000 garments of 28x28; as `load_mnist`."""
    classes = _torchvision("fashion_mnist").FashionMNIST.classes
    return _mnist("fashion_mnist", "FashionMNIST", classes, root, download)


def load_cifar10(root: str | None = None, download: bool = False) -> Dataset:
    """Return CIFAR-10: 50,000 + 10,000 of 3x32x32, from its binary version; as `load_mnist`."""
    return _cifar("cifar10", root, download)


def load_cifar100(root: str | None = None, download: bool = False) -> Dataset:
    """Return CIFAR-100 with its 100 fine classes; otherwise as `load_cifar10`."""
    return _cifar("cifar100", root, download)


def load_svhn(root: str | None = None, download: bool = False) -> Dataset:
    """Return SVHN's cropped digits, 73,257 + 26,032 of 3x32x32, without `extra`.

    The digit 0 is class 0, not 10 as in the files; otherwise as `load_mnist`.
    """
    known = _torchvision("svhn").SVHN.split_list
    raws = [
        Raw(name=name, md5=md5, addresses=(address,))
        for address, name, md5 in (known[part] for part in SVHN_PARTS)
    ]
    train, test = map(_read_mat, _files("svhn", raws, root, download))
    return _joined("svhn", train, test, DIGITS)


def contents(**_: object) -> list[str]:
    """Return nothing: files with the right checksums always have the same content."""
    return []


def _torchvision(source: str) -> ModuleType:
    return need("torchvision.datasets", source, "torchvision")


def _mnist(
    source: str, name: str, classes: Sequence[str], root: str | None, download: bool
) -> Dataset:
    known = getattr(_torchvision(source), name)
    raws = [
        Raw(name=file, md5=md5, addresses=tuple(mirror + file for mirror in known.mirrors))
        for file, md5 in known.resources
    ]
    paths = {path.name: path for path in _files(source, raws, root, download)}
    train, test = (
        (
            _read_idx(paths[f"{part}-images-idx3-ubyte.gz"])[:, None],
            _read_idx(paths[f"{part}-labels-idx1-ubyte.gz"]),
        )
        for part in MNIST_PARTS
    )
    return _joined(source, train, test, classes)


def _cifar(source: str, root: str | None, download: bool) -> Dataset:
    cifar = CIFARS[source]
    (path,) = _files(source, [cifar.raw], root, download)
    with tarfile.open(path) as archive:  # read in memory: nothing is extracted to the disk
        train = _records(b"".join(_member(archive, name) for name in cifar.train), cifar.labels)
        test = _records(_member(archive, cifar.test), cifar.labels)
        classes = _member(archive, cifar.names).decode("ascii").split()
    return _joined(source, train, test, classes)


def _joined(
    source: str, train: tuple[Images, Labels], test: tuple[Images, Labels], classes: Sequence[str]
) -> Dataset:
    return make_dataset(
        np.concatenate((train[0], test[0])),
        np.concatenate((train[1], test[1])),
        classes=classes,
        n_train=len(train[1]),
        source=source,
    )


def _read_idx(path: Path) -> Images:
    """Return the array in a compressed IDX file of bytes."""
    content = gzip.decompress(path.read_bytes())
    # IDX: two zeros, the type, the number of axes, then the sizes, highest byte first.
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _read_mat(path: Path) -> tuple[Images, Labels]:
    """Return the images and labels in one of SVHN's MATLAB files; digit 0 has label 10 there."""
    found = need("scipy.io", "svhn", "scipy").loadmat(path, variable_names=["X", "y"])
    # The axes in the file are H, W, C, N.
    return found["X"].transpose(3, 2, 0, 1), found["y"].ravel().astype(np.int64) % len(DIGITS)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file, name
    return file.read()


def _records(content: bytes, labels: int) -> tuple[Images, Labels]:
    rows = np.frombuffer(content, np.uint8).reshape(-1, labels + int(np.prod(CIFAR_SHAPE)))
    return rows[:, labels:].reshape(-1, *CIFAR_SHAPE), rows[:, labels - 1]


def _files(source: str, raws: Sequence[Raw], root: str | None, download: bool) -> list[Path]:
    """Return the files of a data set after checking their checksums."""
    folder = arrow.machine_folder() / source if root is None else typed_path("data.root", root)
    lacking = [raw for raw in raws if not (folder / raw.name).exists()]
    if lacking and not download:
        places = {address.rpartition("/")[0] for raw in lacking for address in raw.addresses[:1]}
        names = ", ".join(raw.name for raw in lacking)
        remedy = f"put {names} there (from {', '.join(places)}/), or set data.download=true"
        raise InputError("data.root", str(folder), f"files are missing: {remedy}")
    for raw in lacking:
        _download(source, raw, folder)
    for raw in raws:
        _refuse_other_content(raw, folder)
    return [folder / raw.name for raw in raws]


def _download(source: str, raw: Raw, folder: Path) -> None:
    """Download a file into a folder: complete and with the right checksum, or not at all."""
    get = need("torchvision.datasets.utils", source, "torchvision").download_url
    reasons, part = [], f".{raw.name}.part"
    for address in raw.addresses:
        try:
            # Under a hidden name, so that an incomplete file is not taken for the published one.
            get(address, folder, part, raw.md5)
            (folder / part).replace(folder / raw.name)
        except (OSError, RuntimeError, HTTPException) as error:
            reasons.append(f"{address}: {error}")
        else:
            return
    (folder / part).unlink(missing_ok=True)
    remedy = f"try again, or put {raw.name} into {folder} yourself"
    raise MixUnlearnError(f"{raw.name} cannot be downloaded ({'; '.join(reasons)}): {remedy}")


def _refuse_other_content(raw: Raw, folder: Path) -> None:
    try:
        with (folder / raw.name).open("rb") as file:
            found = hashlib.file_digest(file, _md5).hexdigest()
    except OSError as error:
        remedy = f"{raw.name} cannot be read ({error.strerror}): restore it or its permission"
        raise InputError("data.root", str(folder), remedy) from error
    if found != raw.md5:
        remedy = "delete it and download it again"
        reason = f"{raw.name} has the MD5 sum {found}, not {raw.md5}: {remedy}"
        raise InputError("data.root", str(folder), reason)


def _md5() -> "hashlib._Hash":
    # MD5 detects damage, not attacks; reading these files never runs code.
    return hashlib.md5(usedforsecurity=False)
