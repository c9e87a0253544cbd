"""Images that are decoded into the cache part by part: what a killed process leaves behind."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mixunlearn.data import arrow, pictures
from mixunlearn.data.pictures import Pictures, collect
from mixunlearn.data.pixels import PixelError
from mixunlearn.errors import MixUnlearnError
from tests.warm import PARENT

COUNT, N_TRAIN = 11, 8
BROKEN = (2, 9)
SHAPE = (3, 4, 5)


def image(picture: int) -> NDArray[np.uint8]:
    return np.random.default_rng(picture).integers(0, 256, SHAPE, np.uint8)


def decode(picture: int) -> NDArray[np.uint8]:
    if picture in BROKEN:
        raise PixelError(None, "is torn")
    return image(picture)


def gallery(
    decode: Callable[[int], NDArray[np.uint8]] = decode, names: Sequence[str] | None = None
) -> Pictures:
    return Pictures(
        names=names or [f"picture {picture}" for picture in range(COUNT)],
        labels_M=np.arange(COUNT) % 3,
        classes=("ant", "bee", "cow"),
        n_train=N_TRAIN,
        source="gallery",
        shape=SHAPE,
        decode=decode,
    )


class Counted:
    """Decodes images and records the requests; fails at one image, if set."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.asked: list[int] = []
        self.fails_at = fails_at

    def __call__(self, picture: int) -> NDArray[np.uint8]:
        self.asked.append(picture)
        if picture == self.fails_at:
            raise PermissionError(13, "Permission denied")
        return decode(picture)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "gallery.arrow"


@pytest.fixture(params=[1, 2, 4, 100])
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(pictures, "PART", request.param)
    return int(request.param)


@pytest.fixture
def parts_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "PART", 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a process that was not disturbed."""
    path = tmp_path_factory.mktemp("whole") / "gallery.arrow"
    collect(gallery(), path)
    return path.read_bytes()


def test_what_cannot_be_decoded_is_left_out_and_named(path: Path, part: int) -> None:
    dataset = collect(gallery(), path)
    kept = [picture for picture in range(COUNT) if picture not in BROKEN]
    np.testing.assert_array_equal(dataset.images_NCHW, np.stack([image(each) for each in kept]))
    assert dataset.labels_N.tolist() == [each % 3 for each in kept]
    assert (dataset.n_train, dataset.classes) == (N_TRAIN - 1, ("ant", "bee", "cow"))
    assert dataset.skipped == ("picture 2 is torn", "picture 9 is torn")
    assert dataset.path == path


def test_the_file_is_the_one_of_a_data_set_in_memory(path: Path, part: int, whole: bytes) -> None:
    collect(gallery(), path)
    assert path.read_bytes() == whole
    arrow.write(arrow.read(path), path.with_name("written.arrow"))
    assert path.with_name("written.arrow").read_bytes() == whole
    assert [each.name for each in path.parent.iterdir() if each.suffix in {".part", ".note"}] == []


def test_a_file_that_is_there_is_not_decoded_again(path: Path) -> None:
    collect(gallery(), path)
    counted = Counted()
    assert collect(gallery(counted), path).n_train == N_TRAIN - 1
    assert counted.asked == []


def test_an_import_that_ended_early_goes_on(path: Path, parts_of_two: None, whole: bytes) -> None:
    with pytest.raises(MixUnlearnError, match=r"picture 5 cannot be read \(Permission denied\)"):
        collect(gallery(Counted(fails_at=5)), path)
    assert not path.exists()
    counted = Counted()
    collect(gallery(counted), path)
    assert sorted(counted.asked) == list(range(4, COUNT))
    assert path.read_bytes() == whole


SCRIPT = """
import os, signal, sys
from pathlib import Path
from mixunlearn.data import pictures
from tests.core.test_pictures import decode, gallery

def deadly(picture):
    if picture == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(picture)

pictures.PART = 2
pictures.collect(gallery(deadly), Path(sys.argv[1]))
"""


def test_a_killed_import_goes_on(path: Path, parts_of_two: None, whole: bytes) -> None:
    killed = subprocess.run([*PARENT.quick, "-c", SCRIPT, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    counted = Counted()
    collect(gallery(counted), path)
    assert sorted(counted.asked) == list(range(6, COUNT))
    assert path.read_bytes() == whole


def interrupted(path: Path) -> tuple[Path, Path]:
    """Return the growing file and its note of an import that was interrupted after four images."""
    with pytest.raises(MixUnlearnError):
        collect(gallery(Counted(fails_at=5)), path)
    return path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.note")


def torn(pixels: Path, note: Path) -> None:
    with pixels.open("ab") as file:
        file.write(b"of a part that was not noted any more")


def lost(pixels: Path, note: Path) -> None:
    pixels.unlink()


def short(pixels: Path, note: Path) -> None:
    os.truncate(pixels, pixels.stat().st_size // 2)


def unnoted(pixels: Path, note: Path) -> None:
    note.unlink()


def garbled(pixels: Path, note: Path) -> None:
    note.write_text('{"done": ')


def foreign(pixels: Path, note: Path) -> None:
    note.write_text("[]")


def of_another_version(pixels: Path, note: Path) -> None:
    note.write_text(json.dumps({**json.loads(note.read_text()), "start": 472}))


@pytest.mark.parametrize(
    ("spoil", "first"),
    [
        (torn, 4),
        (lost, 0),
        (short, 0),
        (unnoted, 0),
        (garbled, 0),
        (foreign, 0),
        (of_another_version, 0),
    ],
)
def test_what_is_left_is_trusted_as_far_as_it_is_whole(
    path: Path,
    parts_of_two: None,
    whole: bytes,
    spoil: Callable[[Path, Path], None],
    first: int,
) -> None:
    spoil(*interrupted(path))
    counted = Counted()
    collect(gallery(counted), path)
    assert sorted(counted.asked) == list(range(first, COUNT))
    assert path.read_bytes() == whole


def test_a_damaged_file_is_made_anew(path: Path, whole: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(whole[:-100])
    collect(gallery(), path)
    assert path.read_bytes() == whole


def test_of_several_at_once_one_decodes(path: Path) -> None:
    counted = [Counted() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda each: collect(gallery(each), path), counted))
    assert len({dataset.digest for dataset in found}) == 1
    *others, most = sorted(len(each.asked) for each in counted)
    assert most == COUNT
    assert max(others) <= 1  # who waits has tried one


def test_room_is_looked_for_before_anything_is_decoded(path: Path) -> None:
    path.parent.mkdir()
    images = shutil.disk_usage(path.parent).total // int(np.prod(SHAPE)) + 1
    counted = Counted()
    endless = gallery(counted, names=range(images))  # type: ignore[arg-type]
    with pytest.raises(MixUnlearnError, match=r"needs .* GiB more, .* are free: free space there"):
        collect(endless, path)
    assert counted.asked == []


def test_no_picture_at_all_is_an_error(path: Path) -> None:
    def never(picture: int) -> NDArray[np.uint8]:
        raise PixelError(None, f"is blank ({picture})")

    with pytest.raises(MixUnlearnError, match=r"none of 8 pictures.*picture 0 is blank \(0\)"):
        collect(gallery(never), path)
    assert not path.exists()


def test_a_test_part_may_be_lost(path: Path) -> None:
    def half(picture: int) -> NDArray[np.uint8]:
        if picture >= N_TRAIN:
            raise PixelError(None, "is torn")
        return image(picture)

    dataset = collect(gallery(half), path)
    assert dataset.n_train == len(dataset.labels_N) == N_TRAIN


def test_another_shape_is_a_mistake_of_the_source(path: Path) -> None:
    with pytest.raises(ValueError, match=r"picture 0 became uint8 of shape \(4, 5\)"):
        collect(gallery(lambda picture: image(picture)[0]), path)


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder is needed")
    with pytest.raises(MixUnlearnError, match="cannot be written"):
        collect(gallery(), tmp_path / "cache" / "gallery.arrow")


def test_names_that_are_no_text_can_be_shown(path: Path) -> None:
    names = [os.fsdecode(b"caf\xe9 %d" % picture) for picture in range(COUNT)]
    assert collect(gallery(names=names), path).skipped[0] == "caf\\xe9 2 is torn"
