"""Names of training images become rows: files of a folder, keys in a Parquet file."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mixunlearn.data import sources
from mixunlearn.data.arrow import Dataset
from mixunlearn.errors import InputError
from mixunlearn.tasks.written import check_task


def rows(dataset: Dataset, ids: object) -> tuple[int, ...]:
    """Return the rows that a list means."""
    return check_task({"kind": "ids", "ids": ids}, dataset).asked


def refusal(dataset: Dataset, ids: object) -> str:
    """Return the message about a list that is refused."""
    with pytest.raises(InputError) as caught:
        rows(dataset, ids)
    assert caught.value.key == "task.ids"
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Files of a folder: cat/0 cannot be decoded, so cat/1 is row 0


@pytest.fixture
def folder(tmp_path: Path) -> Dataset:
    """A folder of three images, one damaged file, and a test image."""
    for name in ("train/cat/1", "train/cat/2, old", "train/dog/1", "test/dog/9"):
        path = tmp_path / f"images/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    (tmp_path / "images/train/cat/0.png").write_bytes(b"torn")
    options = {"root": str(tmp_path / "images"), "size": 8}
    sources.open_dataset("image_folder", options, tmp_path / "cache")  # decodes them
    return sources.open_dataset("image_folder", options, tmp_path / "cache")


def test_files_are_named_as_the_list_of_rows_names_them(folder: Dataset, tmp_path: Path) -> None:
    wanted = (1, 2)
    assert rows(folder, ["train/dog/1.png", "train/cat/2, old.png"]) == wanted
    for content in (
        "train/dog/1.png\ntrain/cat/2, old.png\n",
        'path;who\ntrain/cat/2, old.png;Ann\n"train/dog/1.png";Bob\n',
        "row,file\n2,train/dog/1.png\n1,\n",
        "2\n1\n",
    ):
        (tmp_path / "r.csv").write_text(content)
        assert rows(folder, str(tmp_path / "r.csv")) == wanted


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["cat/1.png"], "'cat/1.png': no training image has this path; did you mean 'train/cat/1"),
        (["train/dog/11.png", "x"], "has this path (and 1 other); did you mean 'train/dog/1.png'?"),
        (["test/dog/9.png"], "'test/dog/9.png': no training image has this path"),
        (["train/cat/0.png"], "no training image has this path"),
        (["train/cat/1.png"] * 2, "is listed 2 times: list each image once"),
        (["train/cat/1.png", 0], "no training image has this id; they are the rows 0..2"),
        ([3], "has this id; they are the rows 0..2, this is a test image"),
        ([4, 5, -1], "4: no training image has this id (and 2 others); they are the rows 0..2"),
        ([1, 1, 2, 2], "1: is listed 2 times (and 1 other): list each image once"),
    ],
)
def test_unknown_files(folder: Dataset, ids: object, said: str) -> None:
    assert said in refusal(folder, ids)


# Keys of a Parquet file


@pytest.fixture
def table(tmp_path: Path) -> Dataset:
    """Five images in two files, with three columns of keys."""
    whole = pa.table(
        {
            "image": pa.array([[[row]] for row in range(5)], pa.list_(pa.list_(pa.uint8()))),
            "label": [0, 1, 0, 1, 0],
            "id": [10, 11, 12, 13, 14],
            "person": ["Ann", "Bob", "Ann", None, "Cid"],
            "weight": [0.5] * 5,
        }
    )
    pq.write_table(whole[:3], tmp_path / "part0.parquet")
    pq.write_table(whole[3:], tmp_path / "part1.parquet")
    options = {"train": str(tmp_path / "part*.parquet")}
    return sources.open_dataset("parquet", options, tmp_path / "cache")


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("key:id\n13\n10\n", (0, 3)),
        ("row\n4\n0\n", (0, 4)),
        ("4\n0\n", (0, 4)),
        ("person,asked\nCid,today\nAnn,today\n", (0, 2, 4)),
    ],
)
def test_keys_mean_all_their_rows(
    table: Dataset, tmp_path: Path, content: str, wanted: tuple[int, ...]
) -> None:
    (tmp_path / "r.csv").write_text(content)
    assert rows(table, str(tmp_path / "r.csv")) == wanted


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("person\nBo\n", "'Bo': no training image has this person; did you mean 'Bob'?"),
        ("person\nBob\nBob\n", "'Bob': is listed 2 times"),
        ("key:parson\nBob\n", "the source has no such column; did you mean 'person'?"),
        ("weight\n0.5\n", "'weight': line 1 of r.csv is not a whole number: give one id per line"),
        ("id\n3\n0\n", "head the list 'row' to count rows, or 'key:id' for that column"),
    ],
)
def test_unknown_keys(table: Dataset, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "r.csv").write_text(content)
    assert said in refusal(table, str(tmp_path / "r.csv"))


def test_a_data_set_with_names_can_be_sent_to_workers(table: Dataset, folder: Dataset) -> None:
    for dataset in (table, folder):
        again = pickle.loads(pickle.dumps(dataset))
        np.testing.assert_array_equal(again.images_NCHW, dataset.images_NCHW)


def test_a_source_without_names(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("path\na.png\n")
    said = refusal(sources.load_digits(), str(tmp_path / "r.csv"))
    assert said.endswith("images have no names: list their rows")
