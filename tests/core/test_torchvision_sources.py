"""torchvision's data sets, tested with small files in their real formats."""

import gzip
import hashlib
import io
import pickle
import struct
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import savemat
from torchvision import datasets

from mixunlearn.data import torchvision
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.sources import keep, open_dataset
from mixunlearn.errors import InputError, MixUnlearnError

TRAIN, TEST = 20, 10
HEADER = b"MATLAB 5.0 MAT-file".ljust(116)
SOURCES = {  # the shape of an image, and names of classes
    "mnist": ((1, 28, 28), ("0", "9")),
    "fashion_mnist": ((1, 28, 28), ("T-shirt/top", "Ankle boot")),
    "cifar10": ((3, 32, 32), ("airplane", "truck")),
    "cifar100": ((3, 32, 32), ("class_0", "class_9")),
    "svhn": ((3, 32, 32), ("0", "9")),
}
CLASSES = {name: tuple(f"class_{number}" for number in range(10)) for name in SOURCES}
CLASSES["cifar10"] = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
Files = dict[str, bytes]


def images(source: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the images and labels that the small files hold, training images first."""
    rng = np.random.default_rng(len(source))
    shape, _ = SOURCES[source]
    pixels = rng.integers(0, 256, (TRAIN + TEST, *shape), np.uint8)
    return pixels, np.arange(TRAIN + TEST).astype(np.uint8) % 10


# The formats, as their authors describe them


def idx(array: NDArray[np.uint8]) -> bytes:
    """Two zero bytes, a type (8: unsigned bytes), a number of axes, big-endian lengths, content."""
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(head + array.tobytes(), mtime=0)


def mnist_files(source: str) -> Files:
    pixels, labels = images(source)
    return {
        "train-images-idx3-ubyte.gz": idx(pixels[:TRAIN, 0]),
        "train-labels-idx1-ubyte.gz": idx(labels[:TRAIN]),
        "t10k-images-idx3-ubyte.gz": idx(pixels[TRAIN:, 0]),
        "t10k-labels-idx1-ubyte.gz": idx(labels[TRAIN:]),
    }


def packed(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), mtime=0)  # no date in it, so the digest does not change


def cifar10_files(source: str) -> Files:
    """A record is a label and 3,072 pixels: red rows, green rows, blue rows."""
    pixels, labels = images(source)
    records = [
        bytes([label]) + image.tobytes() for image, label in zip(pixels, labels, strict=True)
    ]
    batches = [records[start : start + 4] for start in range(0, TRAIN, 4)]
    names = {f"data_batch_{number}.bin": batch for number, batch in enumerate(batches, 1)}
    names["test_batch.bin"] = records[TRAIN:]
    members = {name: b"".join(batch) for name, batch in names.items()}
    members["batches.meta.txt"] = "\n".join([*CLASSES[source], ""]).encode()
    members["readme.html"] = b"<html>"
    within = {f"cifar-10-batches-bin/{name}": content for name, content in members.items()}
    return {"cifar-10-binary.tar.gz": packed(within)}


def cifar100_files(source: str) -> Files:
    """A record is a coarse label, a fine one and 3,072 pixels."""
    pixels, labels = images(source)
    records = [
        bytes([19 - label, label]) + image.tobytes()
        for image, label in zip(pixels, labels, strict=True)
    ]
    members = {
        "train.bin": b"".join(records[:TRAIN]),
        "test.bin": b"".join(records[TRAIN:]),
        "fine_label_names.txt": "\n".join([*CLASSES[source], ""]).encode(),
        "coarse_label_names.txt": b"aquatic_mammals\n",
    }
    within = {f"cifar-100-binary/{name}": content for name, content in members.items()}
    return {"cifar-100-binary.tar.gz": packed(within)}


def svhn_files(source: str) -> Files:
    """X is height, width, colour, image; y a column, with 10 for the digit 0."""
    pixels, labels = images(source)
    files = {}
    for part, rows in (("train", slice(TRAIN)), ("test", slice(TRAIN, None))):
        stream = io.BytesIO()
        column = np.where(labels[rows] == 0, 10, labels[rows])[:, None].astype(np.uint8)
        content = {"X": pixels[rows].transpose(2, 3, 1, 0), "y": column}
        savemat(stream, content, do_compression=True)
        # Without the time of creation: equal content has equal checksums.
        files[f"{part}_32x32.mat"] = HEADER + stream.getvalue()[len(HEADER) :]
    return files


MAKERS: dict[str, Callable[[str], Files]] = {
    "mnist": mnist_files,
    "fashion_mnist": mnist_files,
    "cifar10": cifar10_files,
    "cifar100": cifar100_files,
    "svhn": svhn_files,
}


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def publish(source: str, files: Files, address: str, patch: pytest.MonkeyPatch) -> None:
    """Publish these files as those of a source, at an address."""
    match source:
        case "mnist" | "fashion_mnist":
            known = datasets.MNIST if source == "mnist" else datasets.FashionMNIST
            patch.setattr(known, "resources", [(n, md5(files[n])) for n, _ in known.resources])
            patch.setattr(known, "mirrors", [f"{address}gone/", address])
        case "cifar10" | "cifar100":
            cifar = torchvision.CIFARS[source]
            digest = md5(files[cifar.raw.name])
            raw = replace(cifar.raw, md5=digest, addresses=(f"{address}{cifar.raw.name}",))
            patch.setitem(torchvision.CIFARS, source, replace(cifar, raw=raw))
        case "svhn":
            split = {n.partition("_")[0]: [address + n, n, md5(files[n])] for n in files}
            patch.setattr(datasets.SVHN, "split_list", split)


NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A source whose published files are the small ones, at an address that does not answer."""
    name = str(request.param)
    publish(name, MAKERS[name](name), NOWHERE, monkeypatch)
    return name


@pytest.fixture
def files(source: str) -> Files:
    return MAKERS[source](source)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "raw"


@pytest.fixture
def there(files: Files, root: Path) -> Files:
    """The published files, in the folder where the user has put them."""
    root.mkdir()
    for name, content in files.items():
        (root / name).write_bytes(content)
    return files


@pytest.fixture
def load(source: str, root: Path, tmp_path: Path) -> Callable[..., Dataset]:
    def loaded(**options: object) -> Dataset:
        return open_dataset(source, {"root": str(root), **options}, tmp_path / "cache")

    return loaded


def test_the_small_files_are_read(
    source: str, there: Files, load: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = load()
    pixels, labels = images(source)
    np.testing.assert_array_equal(dataset.images_NCHW, pixels)
    assert dataset.labels_N.tolist() == labels.tolist()
    assert dataset.n_train == TRAIN
    assert (dataset.classes[0], dataset.classes[9]) == SOURCES[source][1]
    assert dataset.source == source
    assert not (tmp_path / "cache").exists()


def test_once_kept_neither_files_nor_torchvision_are_needed(
    source: str,
    there: Files,
    load: Callable[..., Dataset],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = keep(load(), source, {"root": str(root)}, tmp_path / "cache")
    for name in there:
        (root / name).unlink()
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    for options in ({}, {"root": "elsewhere"}, {"download": True}):
        assert open_dataset(source, options, tmp_path / "cache").path == kept.path


def test_a_missing_file_is_named_with_its_place(
    source: str, there: Files, load: Callable[..., Dataset], root: Path
) -> None:
    for name in there:
        (root / name).rename(root / "aside")
        with pytest.raises(InputError) as caught:
            load()
        assert caught.value.key == "data.root"
        remedy = f"files are missing: put {name} there (from http://127.0.0.1:9/"
        assert str(caught.value).startswith(f"data.root = {str(root)!r}: {remedy}")
        assert str(caught.value).endswith("or set data.download=true")
        (root / "aside").rename(root / name)


def test_without_a_root_the_place_is_one_of_this_machine(
    source: str, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXUNLEARN_CACHE", str(tmp_path / "machine"))
    with pytest.raises(InputError) as caught:
        open_dataset(source, {}, tmp_path / "cache")
    assert str(tmp_path / "machine" / source) in str(caught.value)
    assert all(name in str(caught.value) for name in files)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_file_is_refused_with_both_sums(
    there: Files, load: Callable[..., Dataset], root: Path
) -> None:
    name, content = max(there.items(), key=lambda item: len(item[1]))
    changed = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    (root / name).write_bytes(changed)
    for download in (False, True):  # what the user has put there is never replaced
        with pytest.raises(InputError) as caught:
            load(download=download)
        assert caught.value.key == "data.root"
        assert str(root) in str(caught.value)
        said = f"{name} has the MD5 sum {md5(changed)}, not {md5(content)}: delete it"
        assert said in str(caught.value)
    assert (root / name).read_bytes() == changed


def test_a_folder_in_the_place_of_a_file_is_an_error(
    there: Files, load: Callable[..., Dataset], root: Path
) -> None:
    name = next(iter(there))
    (root / name).unlink()
    (root / name).mkdir()
    with pytest.raises(InputError, match=f"{name} cannot be read"):
        load()


def test_torchvision_is_asked_for_where_it_is_needed(
    source: str, load: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets.utils", None)
    with pytest.raises(InputError, match="needs torchvision: pip install 'mixunlearn"):
        load(download=True)


def test_no_pickle_is_read(
    there: Files, load: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        pytest.fail("something was unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, forbidden)
    assert load().n_train == TRAIN


# Downloads


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(
    source: str, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The folder of a server on this machine that has the published files."""
    folder = tmp_path / "server"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as serving:
        Thread(target=serving.serve_forever, args=(0.01,)).start()
        publish(source, files, f"http://127.0.0.1:{serving.server_port}/", monkeypatch)
        yield folder
        serving.shutdown()


def test_files_are_downloaded_if_asked_for(
    source: str, files: Files, server: Path, load: Callable[..., Dataset], root: Path
) -> None:
    with pytest.raises(InputError, match="files are missing"):
        load(download=False)
    assert not root.exists()
    assert load(download=True).labels_N.tolist() == images(source)[1].tolist()
    assert {path.name: path.read_bytes() for path in root.iterdir()} == files
    for name in files:
        (server / name).unlink()
    assert load(download=True).n_train == TRAIN  # nothing is missing: nothing is asked for


def test_what_arrives_changed_is_not_kept(
    files: Files, server: Path, load: Callable[..., Dataset], root: Path
) -> None:
    last = list(files)[-1]
    (server / last).write_bytes(b"<html>The data set has moved</html>")
    with pytest.raises(MixUnlearnError) as caught:
        load(download=True)
    assert f"{last} cannot be downloaded (http://127.0.0.1" in str(caught.value)
    assert f"or put {last} into {root} yourself" in str(caught.value)
    assert {path.name for path in root.iterdir()} == {name for name in files if name != last}


def test_offline_a_download_says_what_to_put_where(
    files: Files, load: Callable[..., Dataset], root: Path
) -> None:
    with pytest.raises(MixUnlearnError) as caught:
        load(download=True)
    assert str(root) in str(caught.value)
    assert "yourself" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(root.iterdir()) == []


def test_the_published_sums_are_those_of_the_authors() -> None:
    """CIFAR's page lists them for its binary versions; all other sums are torchvision's."""
    assert {name: cifar.raw.md5 for name, cifar in torchvision.CIFARS.items()} == {
        "cifar10": "c32a1d4ab5d03f1284b67883e8d87530",
        "cifar100": "03b5dce01913d631647c71ecec9e9cb8",
    }
