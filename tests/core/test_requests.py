"""Files that list ids: every id is read, or the file is refused; nothing is left out."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixunlearn.data import requests
from mixunlearn.data.requests import read_request
from mixunlearn.errors import InputError
from tests.irregular import IRREGULAR


def ids(path: str, *known: str) -> list[int | str]:
    """Return the ids that a file lists."""
    return read_request(path, known).ids.to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "content",
    [
        b"17\n5\n",
        b"\xef\xbb\xbf17\n5\n",
        b"17\r\n5\r\n",
        b"17\n   \n\t\n5",
        b"id\n17\n5\n",
        b"\xef\xbb\xbf\r\n ID \r\n17\r\n+5\r\n \r\n",
        b"row,file\n17,a.png\n5,b.png\n",
        b'"asked","id"\r\n"1.2.24, by letter","17"\r\n,"5"\r\n,\r\n',
        b"who;Id;when\nAnn;17;\nBob;5;\n",
        b"id\r17\r5\r",
        b"id\twho\n017\tAnn\n05\tBob\n",
    ],
)
def test_text_as_programs_write_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "request.csv"
    file.write_bytes(content)
    assert ids(str(file)) == [17, 5]


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
        (b"who,id\nAnn,17\nBob\n", "line 3 of request.txt has 1 cells, the first line 2"),
        (b"who,id\nAnn,17\n\nBob,\n", "line 4 of request.txt has no id: fill it or drop the line"),
        (b"id,row\n17,5\n", "needs one column 'id' of whole numbers; there are id, row"),
        (b'id\n"17\n5\n', "of request.txt is not CSV .*: correct its quotes"),
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
    gap = pa.table({"id": pa.chunked_array([pa.array([4, 5]), pa.array([6, None, 7])])})
    with pytest.raises(InputError, match="row 3 has no id: fill it or drop the row"):
        read_request(parquet(tmp_path, gap))
    assert ids(parquet(tmp_path, pa.table({"id": pa.array([4, 5], pa.uint8())}))) == [4, 5]


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


# Names


@pytest.mark.parametrize(
    ("content", "column", "names"),
    [
        ("a/1.png\na/2, the second.png\n", "path", ["a/1.png", "a/2, the second.png"]),
        ('path\n"a/1.png"\n17\n', "path", ["a/1.png", "17"]),
        ("File\n[a]/1.png\n", "path", ["[a]/1.png"]),
        ("who,uid\nAnn,007\n", "uid", ["007"]),
        ("key:id,id\n17,3\n", "id", ["17"]),
        ("id\nf3a\n", "id", ["f3a"]),
    ],
)
def test_the_header_tells_what_names_are(
    tmp_path: Path, content: str, column: str, names: list[str]
) -> None:
    (tmp_path / "request.csv").write_text(content)
    listed = read_request(str(tmp_path / "request.csv"), ["path", "uid", "id"])
    assert (listed.column, listed.ids.to_pylist()) == (column, names)


def test_text_among_numbers_is_no_name(tmp_path: Path) -> None:
    (tmp_path / "request.csv").write_text("17\na/1.png\n")
    with pytest.raises(InputError, match=r"line 2 of request.csv is not a whole number"):
        ids(str(tmp_path / "request.csv"), "path")


def test_names_in_parquet_may_be_numbers(tmp_path: Path) -> None:
    table = pa.table({"uid": [7, 12], "path": pa.array(["a", "b"]).dictionary_encode()})
    assert ids(parquet(tmp_path, table), "uid") == ["7", "12"]
    assert ids(parquet(tmp_path, table), "path") == ["a", "b"]


# JSON and NumPy


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.json", [17, 5]),
        ("r.JSON", {"id": [17, 5], "asked": "1.2.24"}),
        ("r.json", [{"who": "Ann", "id": 17}, {"id": 5}]),
    ],
)
def test_json_as_programs_write_it(tmp_path: Path, name: str, content: object) -> None:
    (tmp_path / name).write_text(json.dumps(content), encoding="utf-8-sig")
    assert ids(str(tmp_path / name)) == [17, 5]


def test_json_lines(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"id": 17}\n\n{"id": 5}\r\n')
    assert ids(str(tmp_path / "r.jsonl")) == [17, 5]
    (tmp_path / "r.jsonl").write_text('"a.png"\n"b.png"')
    assert ids(str(tmp_path / "r.jsonl"), "path") == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[17, 5.0]", "5.0: row 1 of r.json is not a whole number"),
        ("[17, true]", "True: row 1 of r.json is not a whole number"),
        ('[17, "5"]', "'5': row 1 of r.json is not a whole number"),
        ('["17"]', "'17': row 0 of r.json is text, not a whole number"),
        ("[NaN]", "nan: row 0 of r.json is not a whole number"),
        ("[17, null]", "row 1 has no id"),
        ('[{"id": 17}, {"no": 5}]', "row 1 has no id"),
        ('{"numbers": [17]}', "needs one column 'id' of whole numbers; there are numbers"),
        ('{"id": 17}', "holds no list of ids"),
        ("17", "holds no list of ids"),
        ("[17", "not JSON"),
        ('{"id": [17], "id": [5]}', "an object has a key twice"),
        ("[" * 100_000, "not JSON"),
        (f"[{10**30}]", "is no row: it has more than 64 bits"),
        (b"\xff\xfe[", "not a text file"),
    ],
)
def test_json_that_lists_no_ids(tmp_path: Path, content: str | bytes, said: str) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "r.json").write_bytes(raw)
    with pytest.raises(InputError, match=said) as caught:
        ids(str(tmp_path / "r.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["r.npy", "request"])
def test_numpy_is_known_by_its_first_bytes(tmp_path: Path, name: str) -> None:
    for values, wanted in [
        (np.array([17, 5], ">i2"), [17, 5]),
        (np.array([2**64 - 1, 5], np.uint64), [2**63 - 1, 5]),  # no row either
        (np.array(["a.png", "b"]), ["a.png", "b"]),
    ]:
        with (tmp_path / name).open("wb") as file:
            np.save(file, values)
        assert ids(str(tmp_path / name), "path") == wanted


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([17.0]), "holds float64 of shape"),
        (np.array([True]), "holds bool of shape"),
        (np.array([[17]]), "of shape .1, 1."),
        (np.array(17), "of shape"),
        (np.array([17, "a"], object), "not a NumPy file of plain values"),
    ],
)
def test_numpy_that_lists_no_ids(tmp_path: Path, values: Any, said: str) -> None:
    np.save(tmp_path / "r.npy", values)
    with pytest.raises(InputError, match=said):
        ids(str(tmp_path / "r.npy"))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{", b"17\n"])
def test_damaged_numpy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.npy").write_bytes(content)
    with pytest.raises(InputError, match="not a NumPy file"):
        ids(str(tmp_path / "r.npy"))


# Sizes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.txt", b""),
        ("r.csv", b"\xef\xbb\xbfid\r\n"),
        ("r.csv", b"path,id\n\n,\n"),
        ("r.json", b" "),
        ("r.json", b'{"id": []}'),
        ("r.jsonl", b""),
    ],
)
def test_files_without_ids(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert ids(str(tmp_path / name)) == []


def test_many_ids_are_read_in_seconds(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id\n" + "\n".join(map(str, range(10**5))))
    begin = time.process_time()
    assert len(read_request(str(tmp_path / "r.csv")).ids) == 10**5
    assert time.process_time() - begin < 5  # 0.6 s measured; a million: 6 s
