"""The data set value and its memory-mapped file."""

import json
import os
import pickle
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mixunlearn.data.around import pixels_start, surround
from mixunlearn.data.arrow import Dataset, make_dataset, read, write
from mixunlearn.errors import CorruptError, MissingError, MixUnlearnError
from tests.warm import PARENT

CLASSES = ("cat", "dog", "emu")


def make(seed: int = 0, count: int = 30, n_train: int = 20) -> Dataset:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 3, 5, 7), np.uint8)
    labels = np.arange(count) % len(CLASSES)
    return make_dataset(images, labels, classes=CLASSES, n_train=n_train, source="made")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "made.arrow"


def test_a_round_trip_changes_nothing(path: Path) -> None:
    dataset = make()
    write(dataset, path)
    back = read(path)
    np.testing.assert_array_equal(back.images_NCHW, dataset.images_NCHW)
    np.testing.assert_array_equal(back.labels_N, dataset.labels_N)
    assert back.images_NCHW.shape == (30, 3, 5, 7)
    assert back.images_NCHW.dtype == np.uint8
    assert back.labels_N.dtype == np.int64
    assert (back.classes, back.n_train, back.source) == (CLASSES, 20, "made")
    assert back.digest == dataset.digest


def test_reading_allocates_nothing_and_owns_nothing(path: Path) -> None:
    write(make(count=3000), path)
    before = pa.total_allocated_bytes()
    images = read(path).images_NCHW
    assert pa.total_allocated_bytes() - before < images.nbytes // 100
    assert not images.flags.owndata
    assert images.flags.c_contiguous


def test_pixels_are_the_bytes_of_the_file(path: Path) -> None:
    """A byte that changes in the file changes in the array: the array maps the file."""
    write(make(), path)
    images = read(path).images_NCHW
    place = path.read_bytes().index(images.tobytes())
    changed = images[0, 0, 0, 0] ^ 0xFF
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes([changed]))
    assert images[0, 0, 0, 0] == changed


def test_two_views_of_one_reading_share_memory(path: Path) -> None:
    write(make(), path)
    images = read(path).images_NCHW
    assert np.shares_memory(images, images.reshape(len(images), -1)[3:])


@pytest.mark.parametrize("mapped", [True, False])
def test_rows_are_read_only_before_and_after_the_file(path: Path, mapped: bool) -> None:
    dataset = make()
    if mapped:
        write(dataset, path)
        dataset = read(path)
    with pytest.raises(ValueError, match="read-only"):
        dataset.images_NCHW[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        dataset.labels_N[0] = 0


def test_making_a_data_set_neither_copies_nor_locks_the_callers_arrays() -> None:
    images, labels = np.zeros((4, 1, 2, 2), np.uint8), np.zeros(4, np.int64)
    dataset = make_dataset(images, labels, classes=["a"], n_train=4, source="made")
    assert np.shares_memory(dataset.images_NCHW, images)
    images[0] = 1  # still the caller's
    assert labels.flags.writeable


def test_the_digest_is_the_same_for_the_same_content() -> None:
    assert make().digest == make().digest
    # A golden value: a digest names files and splits, so it must not change between versions.
    dataset = make_dataset(
        np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2),
        np.array([0, 1]),
        classes=("a", "b"),
        n_train=2,
        source="made",
    )
    assert dataset.digest == "3eb5e059ff5605538a59a1a00072997b357c89574627cd5914b6ace7e1091e9a"


def test_the_digest_sees_every_part_of_the_content() -> None:
    images, labels = np.zeros((4, 1, 2, 3), np.uint8), np.array([0, 1, 0, 1])
    pixel = images.copy()
    pixel[3, 0, 1, 2] = 1

    def digest(
        images: np.typing.NDArray[np.uint8] = images,
        labels: np.typing.NDArray[np.int64] = labels,
        classes: tuple[str, ...] = ("a", "b"),
        n_train: int = 4,
    ) -> str:
        made = make_dataset(images, labels, classes=classes, n_train=n_train, source="made")
        return made.digest

    digests = [
        digest(),
        digest(images=pixel),
        digest(images=images.reshape(4, 1, 3, 2)),
        digest(images=images.reshape(4, 3, 1, 2)),
        digest(labels=labels[::-1]),
        digest(classes=("a", "c")),
        digest(n_train=3),
    ]
    assert len(set(digests)) == len(digests)


def test_the_digest_does_not_depend_on_memory_order_or_source() -> None:
    dataset = make()
    turned = np.asfortranarray(dataset.images_NCHW)
    other = make_dataset(
        turned, dataset.labels_N.astype(np.int32), classes=CLASSES, n_train=20, source="other"
    )
    assert other.digest == dataset.digest


@pytest.mark.parametrize("left", [0, 1, 100, 0.5, 0.999])
def test_a_truncated_file_is_an_error_with_the_remedy(path: Path, left: float) -> None:
    write(make(), path)
    whole = path.stat().st_size
    os.truncate(path, left if isinstance(left, int) else int(whole * left))
    with pytest.raises(CorruptError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "delete it" in str(caught.value)


def foreign_table(path: Path) -> None:
    table = pa.table({"image": [1, 2]})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def written(path: Path) -> tuple[pa.RecordBatch, dict[bytes, bytes]]:
    """Write a data set; return its rows and its header, read without our code."""
    write(make(), path)
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        return reader.get_batch(0), reader.metadata


def two_batches(path: Path) -> None:
    batch, header = written(path)
    with pa.ipc.new_file(str(path), batch.schema, metadata=header) as writer:
        writer.write_batch(batch.slice(0, 10))
        writer.write_batch(batch.slice(10))


def fewer_rows(path: Path) -> None:
    batch, header = written(path)
    with pa.ipc.new_file(str(path), batch.schema, metadata=header) as writer:
        writer.write_batch(batch.slice(0, 10))


def text(path: Path) -> None:
    path.write_text("not Arrow\n" * 100)


@pytest.mark.parametrize("spoil", [foreign_table, two_batches, fewer_rows, text])
def test_a_foreign_file_is_an_error_with_the_remedy(tmp_path: Path, spoil: object) -> None:
    path = tmp_path / "made.arrow"
    assert callable(spoil)
    spoil(path)
    with pytest.raises(CorruptError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "built again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_of_earlier_versions_are_read(path: Path) -> None:
    batch, header = written(path)
    document = json.loads(header[b"mixunlearn"])
    del document["skipped"]
    old = batch.replace_schema_metadata({b"mixunlearn": json.dumps(document)})
    with pa.ipc.new_file(str(path), old.schema) as writer:
        writer.write_batch(old)
    assert read(path).digest == make().digest
    assert read(path).skipped == ()


# A file that is written around its pixels


def grown(path: Path, dataset: Dataset) -> Dataset:
    """Return a data set whose pixels alone are in a file, mapped from there."""
    shape = dataset.images_NCHW.shape
    start = pixels_start((shape[1], shape[2], shape[3]))
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(start)
        file.seek(start)
        file.write(dataset.images_NCHW.tobytes())
    return replace(dataset, images_NCHW=np.memmap(path, np.uint8, "r", start, shape))


@pytest.mark.parametrize("count", [1, 30, 3001])
def test_a_file_written_around_its_pixels_is_the_same_file(path: Path, count: int) -> None:
    dataset = make(count=count, n_train=1)
    write(dataset, path)
    whole, other = path.read_bytes(), path.with_name("grown.arrow")
    surround(grown(other, dataset), other)
    assert other.read_bytes() == whole


def test_more_pixels_than_32_bits_can_count(path: Path) -> None:
    shape = (2**31 // (3 * 512 * 512) + 1, 3, 512, 512)
    start = pixels_start((3, 512, 512))
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(start + int(np.prod(shape)))  # takes no space: all of it is a hole
    dataset = replace(
        make(),
        images_NCHW=np.memmap(path, np.uint8, "r", start, shape),
        labels_N=np.zeros(shape[0], np.int64),
        path=path,
    )
    surround(dataset, path)
    mapped = pickle.loads(pickle.dumps(dataset))
    assert mapped.images_NCHW.shape == shape
    assert mapped.images_NCHW.nbytes > 2**31
    assert not mapped.images_NCHW[-1].any()


def test_a_changed_pixel_is_an_error_with_the_remedy(path: Path) -> None:
    dataset = make()
    write(dataset, path)
    assert read(path).digest == dataset.digest
    content = bytearray(path.read_bytes())
    content[content.index(dataset.images_NCHW.tobytes())] ^= 1
    path.rename(path.with_name("old"))
    path.write_bytes(content)
    with pytest.raises(CorruptError, match=r"content was changed.*delete it"):
        read(path)


def test_a_missing_file_is_an_error(path: Path) -> None:
    with pytest.raises(MissingError, match="does not exist"):
        read(path)


def test_writing_leaves_one_file_and_replaces_an_old_one(path: Path) -> None:
    write(make(0), path)
    old = read(path)
    write(make(1), path)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert read(path).digest == make(1).digest
    # A process that reads the old file while it is replaced keeps reading the old one.
    np.testing.assert_array_equal(old.images_NCHW, make(0).images_NCHW)


def test_a_place_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    blocker = tmp_path / "cache"
    blocker.write_text("a file where a folder is needed")
    with pytest.raises(MixUnlearnError, match="cannot be written"):
        write(make(), blocker / "made.arrow")
    assert list(tmp_path.iterdir()) == [blocker]


@pytest.mark.parametrize(
    ("images", "labels", "n_train"),
    [
        (np.zeros((2, 1, 2, 2), np.float32), [0, 1], 2),
        (np.zeros((2, 2, 2), np.uint8), [0, 1], 2),
        (np.zeros((2, 1, 2, 2), np.uint8), [0], 1),
        (np.zeros((2, 1, 2, 2), np.uint8), [0, 3], 2),
        (np.zeros((2, 1, 2, 2), np.uint8), [0, -1], 2),
        (np.zeros((2, 1, 2, 2), np.uint8), [0, 1], 0),
        (np.zeros((2, 1, 2, 2), np.uint8), [0, 1], 3),
    ],
)
def test_rows_that_make_no_data_set_are_refused(
    images: np.typing.NDArray[np.uint8], labels: list[int], n_train: int
) -> None:
    with pytest.raises(ValueError, match=r"images|labels|label|training part"):
        make_dataset(images, np.array(labels), classes=CLASSES, n_train=n_train, source="made")


# Between processes


@dataclass(frozen=True)
class Copy:
    """A source from which a data set's file can be copied; it records each request.

    Args:
        file: the file with the bytes.
        calls: file with one line for each request.
    """

    file: Path
    calls: Path

    def __call__(self) -> bytes:
        with self.calls.open("a") as calls:
            calls.write(f"{os.getpid()}\n")
        return self.file.read_bytes()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's folder for copies."""
    cache = tmp_path / "machine" / "cache"
    monkeypatch.setenv("MIXUNLEARN_CACHE", str(cache))
    return cache


@pytest.fixture
def elsewhere(path: Path) -> tuple[bytes, Copy]:
    """A pickled data set whose file is no longer in its place, and a source to get it from."""
    write(make(), path)
    copy = Copy(path.parent / "moved", path.parent / "calls")
    pickled = pickle.dumps(read(path).shipped(copy))
    path.rename(copy.file)
    return pickled, copy


def test_in_memory_it_travels_whole() -> None:
    back = pickle.loads(pickle.dumps(make()))
    np.testing.assert_array_equal(back.images_NCHW, make().images_NCHW)
    assert back.path is None


def test_mapped_it_travels_as_the_name_of_its_file(path: Path) -> None:
    write(make(count=3000), path)
    pickled = pickle.dumps(read(path))
    assert len(pickled) < 1000
    back = pickle.loads(pickled)
    assert not back.images_NCHW.flags.owndata
    np.testing.assert_array_equal(back.images_NCHW, make(count=3000).images_NCHW)
    assert (back.path, back.classes, back.n_train) == (path.resolve(), CLASSES, 20)


def test_a_machine_without_the_file_says_what_to_do(path: Path, cache: Path) -> None:
    write(make(), path)
    pickled = pickle.dumps(read(path))
    path.unlink()
    with pytest.raises(MissingError, match=r"not on this machine: set --home to a folder that all"):
        pickle.loads(pickled)
    assert not cache.exists()


def test_another_file_in_its_place_is_not_taken(path: Path, cache: Path) -> None:
    write(make(0), path)
    pickled = pickle.dumps(read(path))
    write(make(1), path)
    with pytest.raises(MissingError):
        pickle.loads(pickled)


def test_a_machine_without_the_file_copies_it_once(
    elsewhere: tuple[bytes, Copy], cache: Path
) -> None:
    pickled, copy = elsewhere
    for _ in range(2):
        back = pickle.loads(pickled)
        np.testing.assert_array_equal(back.images_NCHW, make().images_NCHW)
        assert back.path == cache / f"{make().digest}.arrow"
        assert back.origin == copy
    assert len(copy.calls.read_text().splitlines()) == 1
    (cache / f"{make().digest}.arrow").write_bytes(b"damaged")
    assert pickle.loads(pickled).digest == make().digest
    assert len(copy.calls.read_text().splitlines()) == 2


def loaders(pickled: Path, count: int) -> Sequence[subprocess.Popen[str]]:
    """Start processes that unpickle a data set on request and show it."""
    script = (
        "import pickle, sys; from pathlib import Path; from tests.core import test_arrow\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "dataset = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "print(dataset.path, int(dataset.images_NCHW.astype(int).sum()))"
    )
    started = [
        subprocess.Popen(
            [*PARENT.quick, "-c", script, str(pickled)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    for process in started:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    return started


def test_processes_at_once_copy_it_once(
    elsewhere: tuple[bytes, Copy], cache: Path, tmp_path: Path
) -> None:
    pickled, copy = elsewhere
    (tmp_path / "pickled").write_bytes(pickled)
    shown = [process.communicate("go\n")[0] for process in loaders(tmp_path / "pickled", 3)]
    total = int(make().images_NCHW.astype(int).sum())
    assert shown == [f"{cache / make().digest}.arrow {total}\n"] * 3
    assert len(copy.calls.read_text().splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"nonsense", "changed"])
def test_what_arrives_damaged_is_not_kept(
    elsewhere: tuple[bytes, Copy], cache: Path, content: bytes | str
) -> None:
    pickled, copy = elsewhere
    if content == "changed":
        whole = copy.file.read_bytes()
        place = whole.index(make().images_NCHW.tobytes())
        content = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    assert isinstance(content, bytes)
    copy.file.write_bytes(content)
    with pytest.raises(CorruptError, match="arrived"):
        pickle.loads(pickled)
    assert list(cache.glob("*.arrow")) == []


def test_a_cache_that_cannot_be_written_says_what_to_do(
    elsewhere: tuple[bytes, Copy], cache: Path
) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where a folder is needed")
    with pytest.raises(MixUnlearnError, match="set MIXUNLEARN_CACHE to another folder"):
        pickle.loads(elsewhere[0])


def test_a_file_that_was_removed_while_it_is_mapped_is_written_again(path: Path) -> None:
    write(make(), path)
    content, mapped = path.read_bytes(), read(path)
    path.unlink()
    mapped.restore()
    assert path.read_bytes() == content
    before = path.stat().st_mtime_ns
    mapped.restore()  # it is there: nothing to do
    make().restore()  # without a file
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "replaced"])
def test_a_file_that_was_changed_while_it_is_mapped_is_an_error(path: Path, *, cut: bool) -> None:
    write(make(), path)
    mapped = read(path)
    if cut:
        os.truncate(path, 100)
    else:
        write(make(seed=1), path)
    with pytest.raises(MixUnlearnError, match="was cut or replaced while it was in use; run the"):
        mapped.restore()
