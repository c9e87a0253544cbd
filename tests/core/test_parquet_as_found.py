"""Parquet data sets as people publish them: many files, other columns, mixed images, addresses."""

import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from pyarrow.fs import FileSystem

from mixunlearn.data import sources
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.sources import open_dataset
from mixunlearn.errors import InputError, MixUnlearnError
from tests.fixtures import S3

GREY = np.random.default_rng(0).integers(0, 256, (6, 5, 7), np.uint8)
LABELS = [0, 1, 2, 0, 1, 2]


def png(image: NDArray[np.uint8], mode: str | None = None) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(image)
    (picture.convert(mode) if mode else picture).save(stream, "PNG")
    return stream.getvalue()


PNGS = pa.array([png(image) for image in GREY])


def save(path: Path, image: pa.Array = PNGS, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": image, "label": LABELS, **columns}), path)
    return path


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Dataset]:
    def opened(train: object, **options: object) -> Dataset:
        return open_dataset("parquet", {"train": str(train), **options}, tmp_path / "cache")

    return opened


# Folders


def test_a_folder_is_all_its_files(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    folder = tmp_path / "data"
    for number in range(2):
        save(folder / f"train-0000{number}-of-00002.parquet")
    (folder / "README.md").write_text("what this is")
    (folder / ".hidden.parquet").write_text("a download that was cut off")
    dataset = load(folder)
    np.testing.assert_array_equal(dataset.images_NCHW[:, 0], [*GREY, *GREY])
    assert load(f"file://{folder}").digest == dataset.digest
    assert load(f"file://{folder}/train-*.parquet").digest == dataset.digest


def test_an_address_of_another_machine_is_no_local_path(
    tmp_path: Path, load: Callable[..., Dataset]
) -> None:
    path = save(tmp_path / "train.parquet")
    assert load(f"file://localhost{path}").digest == load(path).digest
    with pytest.raises(InputError, match=r"data\.train = 'file://elsewhere/.* file:///FOLDER"):
        load(f"file://elsewhere{path}")


def test_a_folder_of_several_parts(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    folder = save(tmp_path / "data" / "train-00000-of-00001.parquet").parent
    save(folder / "test-00000-of-00001.parquet")
    with pytest.raises(InputError) as raised:
        load(folder)
    assert raised.value.key == "data.train"
    assert f"several parts (test, train): name one part, {folder}/train-*" in str(raised.value)


# Lists


def test_a_list_of_files_is_what_a_pattern_finds(
    tmp_path: Path, load: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = [PNGS, PNGS[::-1], PNGS[1:].take([0, 0, 1, 2, 3, 4])]
    one, two, three = (save(Path(f"{n}/t.parquet"), part) for n, part in enumerate(parts))
    cache = tmp_path / "cache"
    found = load("*/t.parquet", test="0")
    for listed in ([three, "0", f"file://{tmp_path}/1/*.parquet"], [str(one), three, two]):
        dataset = open_dataset("parquet", {"train": listed, "test": ["0/t.parquet"]}, cache)
        assert dataset.digest == found.digest


@pytest.mark.parametrize(
    ("listed", "value", "message"),
    [
        ([], "[]", "must be text, or a list of texts that is not empty"),
        (["a.parquet", 3], "['a.parquet', 3]", "must be text, or a list of texts"),
        (["a.parquet", "."], "'a.parquet'", "is named twice in the list: name it once"),
        (["a.parquet", "b.parquet"], "'b.parquet'", "no such file: correct the path"),
        (["a.parquet", ""], "''", "is empty: give a path"),
    ],
)
def test_what_a_list_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: object, value: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("a.parquet"))
    with pytest.raises(InputError) as raised:
        open_dataset("parquet", {"train": listed}, tmp_path / "cache")
    assert str(raised.value).startswith(f"data.train = {value}: {message}")


# Columns


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("image", "label"), []),
        (("image", "label", "img", "fine_label"), []),
        (("img", "label"), ["images are read from column 'img'; data.image names another"]),
        (
            ("image", "fine_label", "coarse_label"),
            [
                "labels are read from column 'fine_label'; data.label names another, "
                "for example 'coarse_label'"
            ],
        ),
    ],
)
def test_usual_columns_are_found_and_said(
    tmp_path: Path,
    load: Callable[..., Dataset],
    caplog: pytest.LogCaptureFixture,
    names: Sequence[str],
    said: list[str],
) -> None:
    columns = {name: PNGS if name.startswith("im") else LABELS for name in names}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert load(tmp_path / "t.parquet").labels_N.tolist() == LABELS
    assert [record.message.removeprefix("parquet: ") for record in caplog.records] == said


def test_it_must_be_clear_which_column_is_meant(
    tmp_path: Path, load: Callable[..., Dataset]
) -> None:
    table = pa.table({"image": PNGS, "fine_label": LABELS, "class": LABELS[::-1]})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(InputError) as raised:
        load(tmp_path / "t.parquet")
    assert raised.value.key == "data.label"
    assert "columns fine_label and class: set data.label to the one you mean" in str(raised.value)
    assert load(tmp_path / "t.parquet", label="class").labels_N.tolist() == LABELS[::-1]


def test_views_are_read_like_other_text_and_bytes(
    tmp_path: Path, load: Callable[..., Dataset]
) -> None:
    names = pa.array([f"{row}.png" for row in LABELS], pa.string_view())
    images = PNGS.cast(pa.binary_view())
    structs = pa.StructArray.from_arrays([images, names], ["bytes", "path"])
    table = pa.table({"image": images, "struct": structs, "label": names, "key": names})
    pq.write_table(table, tmp_path / "t.parquet")
    for column in ("image", "struct"):
        dataset = load(tmp_path / "t.parquet", image=column)
        np.testing.assert_array_equal(dataset.images_NCHW[:, 0], GREY)
        assert dataset.classes == ("0.png", "1.png", "2.png")
        assert dataset.row_names is not None
        assert dataset.row_names()["key"]().to_pylist() == names.to_pylist()


# Sizes and modes


def test_images_of_any_size_and_mode_are_fitted_and_counted(
    tmp_path: Path, load: Callable[..., Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    colour = np.random.default_rng(1).integers(0, 256, (4, 4, 3), np.uint8)
    images = [png(colour)] * 3 + [png(colour, "L"), png(GREY[0], "RGB"), png(GREY[0])]
    path = save(tmp_path / "t.parquet", pa.array(images))
    with pytest.raises(InputError, match=r"set data\.size"):
        load(path)
    fitted = load(path, size=4).images_NCHW
    assert fitted.shape == (6, 3, 4, 4)
    np.testing.assert_array_equal(fitted[0], colour.transpose(2, 0, 1))
    assert np.ptp(fitted[3], axis=0).max() == 0  # grey
    (said,) = [record.message for record in caplog.records]
    assert said == (
        "parquet: data.size = 4: of 6 images, 2 images converted to RGB, 2 images resized"
    )


def test_what_was_said_of_a_source_is_said_again_when_it_comes_from_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pq.write_table(pa.table({"img": PNGS, "label": LABELS}), tmp_path / "t.parquet")
    options, cache = {"train": str(tmp_path / "t.parquet"), "size": 4}, tmp_path / "cache"
    sources.keep(open_dataset("parquet", options, cache), "parquet", options, cache)
    first = [record.message for record in caplog.records]
    assert len(first) == 2
    caplog.clear()
    assert open_dataset("parquet", options, cache).path
    assert [record.message for record in caplog.records] == first


def test_lists_of_any_size_are_fitted(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    lists = [image.tolist() for image in GREY[:5]] + [GREY[5, :4, :4].tolist()]
    path = save(tmp_path / "t.parquet", pa.array(lists))
    with pytest.raises(InputError, match=r"row 5.*set data\.size"):
        load(path)
    images = load(path, size=4).images_NCHW
    np.testing.assert_array_equal(images[5], np.stack([GREY[5, :4, :4]] * 3))


# Addresses


@pytest.mark.slow
def test_files_in_a_bucket(tmp_path: Path, load: Callable[..., Dataset], s3: S3) -> None:
    filesystem, root = FileSystem.from_uri(s3.uri("set"))
    for name in ("data/train-0", "data/train-1", "more/deep/train-2"):
        content = save(tmp_path / "t.parquet").read_bytes()
        with filesystem.open_output_stream(f"{root}/{name}.parquet") as stream:
            stream.write(content)
    assert load(s3.uri("set/data/train-0.parquet")).n_train == 6
    assert load(s3.uri("set/data")).n_train == 12
    assert load(s3.uri("set/data/train-*.parquet")).n_train == 12
    assert load(s3.uri("set/**/train-*.parquet")).n_train == 18
    for place in ("set/none.parquet", "set/none-*.parquet", "no"):
        with pytest.raises(InputError, match=r"data\.train = .*: no (such )?file") as raised:
            load(s3.uri(place))
        assert "\n" not in str(raised.value)
    linked = pa.array([{"bytes": None, "path": "/etc/hostname"}] * 6)
    content = save(tmp_path / "t.parquet", linked).read_bytes()
    with filesystem.open_output_stream(f"{root}/linked.parquet") as stream:
        stream.write(content)
    with pytest.raises(InputError, match="images are inside the Parquet file"):
        load(s3.uri("set/linked.parquet"))


def test_a_file_in_a_bucket_that_changes_is_read_again(
    tmp_path: Path, load: Callable[..., Dataset], s3: S3
) -> None:
    filesystem, root = FileSystem.from_uri(s3.uri("changed"))
    for rows in (GREY, GREY[::-1]):
        images = pa.array([png(image) for image in rows])
        with filesystem.open_output_stream(f"{root}/t.parquet") as stream:
            stream.write(save(tmp_path / "t.parquet", images).read_bytes())
        np.testing.assert_array_equal(load(s3.uri("changed/t.parquet")).images_NCHW[:, 0], rows)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://host/t.parquet", "unknown kind of address: use a path, or an address that begins"),
        ("s3://key:secret@bucket/t.parquet", "holds a secret: put it into the environment"),
        ("s3://bucket/t.parquet?secret_key=secret", "holds a secret"),
        ("hf://datasets/somebody/something/data", "pip install huggingface_hub"),
        ("s3:///", "data.train"),
    ],
)
def test_an_address_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, load: Callable[..., Dataset], address: str, said: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MixUnlearnError) as raised:
        load(address)
    assert said in str(raised.value)
    assert "secret@" not in str(raised.value)
    assert "=secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_silent_address_is_an_error_that_names_the_key(
    monkeypatch: pytest.MonkeyPatch, load: Callable[..., Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    address = "s3://bucket/t.parquet?endpoint_override=127.0.0.1:9&scheme=http&region=x"
    with pytest.raises(MixUnlearnError, match=r"data\.train = 's3://bucket.*try again") as raised:
        load(address)
    assert raised.value.exit_code == 1
