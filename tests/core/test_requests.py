"""Files that list ids: every id is read, or the file is refused; nothing is left out."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixunlearn.data import requests
from mixunlearn.data.requests import read_request
from mixunlearn.errors import InputError
from tests.irregular import IRREGULAR


@pytest.mark.parametrize(
    "content",
    [
        b"17\n5\n",
        b"\xef\xbb\xbf17\n5\n",
        b"17\r\n5\r\n",
        b"17\n   \n\t\n5",
        b"id\n17\n5\n",
        b"\xef\xbb\xbf\r\n ID \r\n17\r\n+5\r\n \r\n",
    ],
)
def test_text_as_programs_write_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "request.csv"
    file.write_bytes(content)
    assert read_request(str(file)) == [17, 5]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"17\nid\n", "line 2 of request.txt is not a whole number"),
        (b"id\nid\n17\n", "line 2 of request.txt"),
        (b"1_7\n", "line 1 of request.txt"),
        ("١٧\n".encode(), "line 1 of request.txt"),
        (b"17,5\n", "line 1 of request.txt"),
        (b"9" * 5000, "line 1 of request.txt"),
        (b"\n\n17\n5.0\n", "line 4 of request.txt"),
    ],
)
def test_text_that_lists_no_ids(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "request.txt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_request(str(file))


def parquet(folder: Path, table: pa.Table) -> str:
    pq.write_table(table, folder / "request.Parquet")
    return str(folder / "request.Parquet")


def test_a_row_without_an_id_is_refused(tmp_path: Path) -> None:
    ids = pa.table({"id": pa.chunked_array([pa.array([4, 5]), pa.array([6, None, 7])])})
    with pytest.raises(InputError, match="row 3 has no id: fill it or drop the row"):
        read_request(parquet(tmp_path, ids))
    assert read_request(parquet(tmp_path, pa.table({"id": pa.array([4, 5], pa.uint8())}))) == [4, 5]


def test_which_column_is_meant_must_be_clear(tmp_path: Path) -> None:
    twice = pa.table([pa.array([4]), pa.array([5])], names=["id", "id"])
    with pytest.raises(InputError, match="needs one column 'id'"):
        read_request(parquet(tmp_path, twice))


@pytest.mark.parametrize("make", IRREGULAR)
@pytest.mark.parametrize("name", ["request.txt", "request.parquet"])
def test_only_regular_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    with pytest.raises(InputError, match="not a regular file"):
        read_request(str(tmp_path / name))


def test_a_file_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "LARGEST", 2**20)
    with (tmp_path / "request.txt").open("wb") as file:
        file.truncate(2**20 + 1)
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read_request(str(tmp_path / "request.txt"))


@pytest.mark.parametrize("path", ["a\0b", "a\ud800b"])
def test_what_no_path_can_hold(path: str) -> None:
    with pytest.raises(InputError, match="not a valid path"):
        read_request(path)
