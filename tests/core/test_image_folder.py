"""Folders of images: the layout, how an image becomes a square, what is left out."""

import io
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import functional

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.pixels import PixelError, decode_square
from mixunlearn.data.sources import keep, open_dataset
from mixunlearn.errors import InputError
from tests.irregular import IRREGULAR

SIZE = 8
RED = (200, 100, 50)


def fill(folder: Path, classes: str = "cat dog", count: int = 3, shade: int = 0) -> None:
    """Put images of one colour each, named by number, into a folder for each class."""
    for place, name in enumerate(classes.split()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            colour = (shade + 40 * place, 10 * number, 7)
            Image.new("RGB", (12, 9), colour).save(folder / name / f"{number}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "set" / "train")
    return tmp_path / "set"


@pytest.fixture
def load(root: Path, tmp_path: Path) -> Callable[[], Dataset]:
    def loaded() -> Dataset:
        return open_dataset("image_folder", {"root": str(root), "size": SIZE}, tmp_path / "cache")

    return loaded


@pytest.fixture
def refused(root: Path, tmp_path: Path) -> Callable[..., str]:
    """Return the error message about a folder; no file may be left behind."""

    def refuse(folder: Path = root) -> str:
        with pytest.raises(InputError) as caught:
            open_dataset("image_folder", {"root": str(folder)}, tmp_path / "cache")
        assert caught.value.key == "data.root"
        assert not (tmp_path / "cache").exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refuse


# The layout


def test_a_folder_is_a_class(load: Callable[[], Dataset]) -> None:
    dataset = load()
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels_N.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.images_NCHW.shape == (6, 3, SIZE, SIZE)
    assert dataset.images_NCHW[:, :, 4, 4].tolist() == [
        [40 * place, 10 * number, 7] for place in range(2) for number in range(3)
    ]
    assert (dataset.n_train, dataset.source, dataset.skipped) == (6, "image_folder", ())


@pytest.mark.parametrize(("parts", "taken"), [("test", 90), ("val", 90), ("val test", 91)])
def test_test_comes_before_val(
    root: Path, load: Callable[[], Dataset], parts: str, taken: int
) -> None:
    for number, part in enumerate(parts.split()):
        fill(root / part, "dog", 2, shade=90 + number)
    dataset = load()
    assert (dataset.n_train, len(dataset.labels_N)) == (6, 8)
    assert dataset.labels_N[6:].tolist() == [1, 1]
    assert dataset.images_NCHW[6:, 0, 0, 0].tolist() == [taken] * 2


def test_the_test_folder_of_imagenet_has_no_labels(root: Path, load: Callable[[], Dataset]) -> None:
    fill(root / "val", count=1)
    (root / "test").mkdir()
    Image.new("RGB", (9, 9)).save(root / "test" / "unlabelled.png")
    assert len(load().labels_N) == 8


def test_classes_are_sorted_and_files_may_lie_deeper(
    root: Path, load: Callable[[], Dataset]
) -> None:
    fill(root / "train" / "Zebra", "images", 1, shade=250)
    fill(root / "train" / "ant", "2 10", 1, shade=100)
    (root / "train" / "README.txt").write_text("not a class")
    (root / "train" / "cat" / ".DS_Store").write_text("hidden")
    (root / "train" / ".thumbnails").mkdir()
    dataset = load()
    assert dataset.classes == ("Zebra", "ant", "cat", "dog")
    assert dataset.labels_N.tolist() == [0, 1, 1, 2, 2, 2, 3, 3, 3]
    assert dataset.images_NCHW[:3, 0, 0, 0].tolist() == [250, 140, 100]
    assert dataset.skipped == ()


def test_links_are_followed(root: Path, tmp_path: Path, load: Callable[[], Dataset]) -> None:
    fill(tmp_path / "elsewhere", "emu", 2)
    (root / "train" / "emu").symlink_to(tmp_path / "elsewhere" / "emu")
    assert load().labels_N.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_no_such_folder(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "no such folder: correct the path" in refused(tmp_path / "gone")
    (tmp_path / "file").write_text("")
    assert "no such folder" in refused(tmp_path / "file")
    assert "not a valid path" in refused(tmp_path / ("x" * 300))


def test_other_layouts_are_refused(root: Path, refused: Callable[..., str]) -> None:
    assert "has no folder train: put the images of each class into train/" in refused(
        root / "train"
    )
    shutil.rmtree(root / "train" / "dog")
    assert "train has one class, cat: put the images of each" in refused()
    shutil.rmtree(root / "train" / "cat")
    assert "train has no class folders: put the images of each" in refused()


def test_an_empty_class_is_refused(root: Path, refused: Callable[..., str]) -> None:
    (root / "train" / "emu" / "deeper").mkdir(parents=True)
    (root / "train" / "emu" / ".hidden").write_text("")
    assert "train/emu has no files: remove it" in refused()


def test_a_class_that_only_the_test_part_has_is_refused(
    root: Path, refused: Callable[..., str]
) -> None:
    fill(root / "val", "cat emu")
    assert "val/emu is not a class of train: rename or remove it" in refused()


def test_a_link_that_leads_nowhere_is_an_error(root: Path, refused: Callable[..., str]) -> None:
    (root / "train" / "cat" / "lost.jpg").symlink_to(root / "nowhere.jpg")
    assert "cat/lost.jpg cannot be read (No such file or directory): restore" in refused()


# The cache


def test_it_is_decoded_once_and_mapped(
    root: Path, tmp_path: Path, load: Callable[[], Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load()
    assert dataset.path is not None
    monkeypatch.setattr("mixunlearn.data.image_folder.decode_square", None)
    assert load().digest == dataset.digest
    options = {"root": str(root), "size": SIZE}
    assert keep(dataset, "image_folder", options, tmp_path / "cache").path == dataset.path


def test_a_moved_folder_is_the_same(
    root: Path, tmp_path: Path, load: Callable[[], Dataset]
) -> None:
    dataset = load()
    root.rename(tmp_path / "moved")
    options = {"root": str(tmp_path / "moved"), "size": SIZE}
    assert open_dataset("image_folder", options, tmp_path / "cache").path == dataset.path


def touched(file: Path) -> None:
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))


def removed(file: Path) -> None:
    file.unlink()


def renamed(file: Path) -> None:
    file.rename(file.with_suffix(".jpg"))


@pytest.mark.parametrize("change", [touched, removed, renamed])
def test_a_changed_folder_is_decoded_anew(
    root: Path, load: Callable[[], Dataset], change: Callable[[Path], None]
) -> None:
    before = load().path
    change(root / "train" / "cat" / "1.png")
    assert load().path != before


def test_another_size_is_another_file(
    root: Path, tmp_path: Path, load: Callable[[], Dataset]
) -> None:
    other = open_dataset("image_folder", {"root": str(root)}, tmp_path / "cache")
    assert other.images_NCHW.shape == (6, 3, 224, 224)
    assert other.path != load().path


# What cannot be decoded


def test_what_is_no_image_is_left_out_and_said_each_time(
    root: Path, load: Callable[[], Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    whole = (root / "train" / "cat" / "0.png").read_bytes()
    (root / "train" / "cat" / "3.png").write_bytes(whole[: len(whole) // 2])
    (root / "train" / "dog" / "4.JPEG").write_bytes(b"")
    (root / "train" / "dog" / "Thumbs.db").write_bytes(bytes(range(256)))
    (root / "train" / "dog" / "x.txt").write_text("notes")
    for _ in range(2):
        caplog.clear()
        dataset = load()
        assert dataset.labels_N.tolist() == [0, 0, 0, 1, 1, 1]
        assert [line.split()[0] for line in dataset.skipped] == [
            "train/cat/3.png",
            "train/dog/4.JPEG",
            "train/dog/Thumbs.db",
            "train/dog/x.txt",
        ]
        (line,) = (record.getMessage() for record in caplog.records)
        assert line.startswith("image_folder: 4 files cannot be decoded, left out (train/cat")
        assert line.endswith("; ...); all: mixunlearn data image_folder")


# Squares


def square(picture: Image.Image | bytes, size: int = SIZE, kind: str = "PNG") -> NDArray[np.uint8]:
    if isinstance(picture, bytes):
        return decode_square(io.BytesIO(picture), size)
    stream = io.BytesIO()
    picture.save(stream, kind)
    return decode_square(stream, size)


def smooth(width: int, height: int) -> Image.Image:
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - across], -1).astype(np.uint8))


@pytest.mark.parametrize(("width", "height"), [(20, 8), (8, 20), (8, 8), (9, 8)])
def test_the_centre_is_cut_out(width: int, height: int) -> None:
    picture = smooth(width, height)
    left, top = (width - 8) // 2, (height - 8) // 2
    wanted = np.asarray(picture)[top : top + 8, left : left + 8].transpose(2, 0, 1)
    np.testing.assert_allclose(square(picture).astype(int), wanted, atol=16 if width == 9 else 0)


@pytest.mark.parametrize(("width", "height"), [(500, 375), (300, 640), (64, 64), (20, 30), (1, 9)])
@pytest.mark.parametrize("size", [16, 64, 224])
def test_the_shorter_side_is_scaled_as_elsewhere(width: int, height: int, size: int) -> None:
    picture = smooth(width, height)
    wanted = functional.center_crop(functional.resize(picture, [size]), [size, size])
    found = square(picture, size).transpose(1, 2, 0).astype(int)
    # torchvision rounds the longer side and the offset of the centre: half a pixel of difference.
    np.testing.assert_allclose(found, np.asarray(wanted), atol=255 / size + 1)


def deep_png(value: int) -> bytes:
    """Return a PNG of 16 bits a channel in colour, which Pillow reads but does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        ending = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + ending

    rows = (b"\0" + struct.pack(">3H", value, value, value) * 8) * 8
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


PLAIN = Image.new("RGB", (12, 9), RED)
GREY = Image.new("L", (12, 9), 77)
GREEN = Image.new("RGB", (12, 9), (0, 255, 0))
SIXTEEN = Image.fromarray(np.full((9, 12), 77 * 256 + 200, np.uint16))
TURNED = Image.Exif()
TURNED[0x0112] = 6
CONVERTED = {
    "grey": (saved(GREY, "PNG"), (77,) * 3),
    "black and white": (saved(Image.new("1", (12, 9), 1), "PNG"), (255,) * 3),
    "grey with transparency": (saved(Image.new("LA", (12, 9), (77, 0)), "PNG"), (77,) * 3),
    "transparency": (saved(Image.new("RGBA", (12, 9), (*RED, 0)), "PNG"), RED),
    "palette": (saved(PLAIN.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"), RED),
    "transparent palette": (
        saved(PLAIN.convert("P", palette=Image.Palette.ADAPTIVE), "PNG", transparency=bytes(256)),
        RED,
    ),
    "CMYK TIFF": (saved(PLAIN.convert("CMYK"), "TIFF"), RED),
    "CMYK JPEG": (saved(PLAIN.convert("CMYK"), "JPEG"), RED),
    "JPEG": (saved(PLAIN, "JPEG"), RED),
    "grey JPEG": (saved(GREY, "JPEG"), (77,) * 3),
    "WebP": (saved(PLAIN, "WEBP"), RED),
    "BMP": (saved(PLAIN, "BMP"), RED),
    "16 bits": (saved(SIXTEEN, "PNG"), (77,) * 3),
    "16 bits in colour": (deep_png(77 * 256 + 200), (77,) * 3),
    "16 bits in 32": (saved(Image.fromarray(np.full((9, 12), 20000, np.int32)), "TIFF"), (78,) * 3),
    "16 bits PGM": (b"P5 8 8 65535\n" + struct.pack(">H", 20000) * 64, (78,) * 3),
    "animated GIF": (saved(PLAIN, "GIF", save_all=True, append_images=[GREEN]), RED),
    "animated PNG": (saved(PLAIN, "PNG", save_all=True, append_images=[GREEN]), RED),
    "animated WebP": (saved(PLAIN, "WEBP", save_all=True, append_images=[GREEN]), RED),
    "pages": (saved(PLAIN, "TIFF", save_all=True, append_images=[GREEN]), RED),
}


@pytest.mark.parametrize("kind", CONVERTED)
def test_every_kind_of_image_becomes_colour_of_8_bits(kind: str) -> None:
    content, colour = CONVERTED[kind]
    found = square(content)
    assert found.shape == (3, SIZE, SIZE)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found[:, 3, 3].astype(int), colour, atol=5)
    assert np.ptp(found, (1, 2)).max() <= 5


def test_a_camera_that_was_turned() -> None:
    content = saved(smooth(16, 16), "JPEG", exif=TURNED, quality=95)
    wanted = np.rot90(square(smooth(16, 16), 16), -1, (1, 2)).astype(int)
    np.testing.assert_allclose(square(content, 16).astype(int), wanted, atol=16)


REFUSED = {
    "text": (b"no image at all", "is not an image in PNG, JPEG"),
    "nothing": (b"", "is not an image in PNG"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image in PNG"),
    "half a JPEG": (saved(smooth(64, 64), "JPEG")[:700], "cannot be decoded (image file is trunc"),
    "half a PNG": (saved(smooth(64, 64), "PNG")[:-40], "cannot be decoded"),
    "floats": (saved(Image.new("F", (9, 9), 0.5), "TIFF"), "mode F, only 8 and 16 bits"),
    "32 bits": (
        saved(Image.fromarray(np.full((9, 9), 2**20, np.int32)), "TIFF"),
        "mode I, only 8 and 16 bits",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_meaning_in_8_bits_is_no_image(kind: str) -> None:
    content, said = REFUSED[kind]
    with pytest.raises(PixelError) as caught:
        square(content)
    assert said in caught.value.reason


def test_a_disk_that_fails_is_not_taken_for_a_bad_image() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 100:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(OSError, match="Input/output error"):
        decode_square(Failing(saved(smooth(640, 640), "BMP")), SIZE)


# What is no file of images at all


@pytest.mark.parametrize("make", IRREGULAR)
def test_what_could_be_read_for_ever_is_refused(
    root: Path,
    refused: Callable[..., str],
    make: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(root)
    make(root / "train" / "cat" / "odd.png")
    assert "odd.png cannot be read (not a regular file): restore or remove it" in refused()


def test_links_that_lead_back_are_refused(root: Path, refused: Callable[..., str]) -> None:
    (root / "train" / "cat" / "up").symlink_to(root / "train")
    assert "cat cannot be read (it is within itself)" in refused()


@pytest.mark.parametrize("place", ["/proc", "/proc/self", "/sys"])
def test_folders_of_the_kernel_are_refused(
    root: Path, refused: Callable[..., str], place: str
) -> None:
    (root / "train" / "cat" / "kernel").symlink_to(place)
    assert "(not a folder on a disk)" in refused()


def test_files_of_the_kernel_are_left_out(root: Path, load: Callable[[], Dataset]) -> None:
    for name in ("kmsg", "self/mem", "self/environ"):
        (root / "train" / "cat" / name.replace("/", "-")).symlink_to(f"/proc/{name}")
    dataset = load()
    assert len(dataset.labels_N) == 6
    assert [line.partition(" ")[2] for line in dataset.skipped] == ["is empty"] * 3


def test_a_folder_without_an_image_is_bad_input(tmp_path: Path) -> None:
    for number in range(60):
        path = tmp_path / "set" / "train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"none of 60 pictures can be decoded \(the first: train"):
        open_dataset("image_folder", {"root": str(tmp_path / "set")}, tmp_path / "runs" / "cache")
    assert not (tmp_path / "runs").exists()


def test_memory_that_is_short_costs_no_image() -> None:
    class Short(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("out of memory error when reading image file")  # Pillow's own words

    with pytest.raises(MemoryError):
        decode_square(Short(b"P6"), SIZE)
