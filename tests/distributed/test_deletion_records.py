"""Deletion records: what one holds, and that every later change of the chain shows."""

import json
import multiprocessing
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distributed.requests.record import DeletionRecord, append, read_all, verify
from distributed.requests.secret import forget_digest
from mixunlearn.errors import CorruptError

SCHEMA = Path(__file__).parents[2] / "docs" / "deletion-record.schema.json"
A, B, C = "a" * 64, "b" * 64, "c" * 64
CONTENT: dict[str, Any] = {
    "request": "march",
    "token": "t1",
    "started": "2026-03-01T10:00:00Z",
    "finished": "2026-03-01T10:02:00.5+00:00",
    "model": {"name": "net", "before": A, "after": B, "file": C},
    "data": {"source": "digits.parquet", "digest": "12ab"},
    "forget": {"kind": "ids", "images": 37, "digest": A},
    "configuration": {
        "method": "salun",
        "hyperparameters": {"lr": 1e-3, "layers": ["fc"]},
        "epochs": 3,
        "seed": 0,
        "labels": "all",
        "from_": "digits/4",
    },
    "code": {"version": "0.2", "python": "3.11", "packages": {"torch": "2"}, "device": "cpu"},
    "measured": {"before": {"acc/forget": 99}, "after": {"acc/forget": float("nan")}},
    "verdict": {"state": "unverified"},
    "seconds": 12.5,
}


def put(home: Path, *tokens: str) -> list[str]:
    return [append(home, CONTENT | {"token": token}).digest for token in tokens]


def file(home: Path, number: int) -> Path:
    return home / "records" / f"{number:06d}.json"


def edit(home: Path, number: int, **changes: object) -> None:
    path = file(home, number)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_schema_is_published() -> None:
    schema = json.dumps(DeletionRecord.model_json_schema(), indent=2) + "\n"
    if os.environ.get("WRITE_GOLDEN"):
        SCHEMA.write_text(schema)
    assert SCHEMA.read_text() == schema


def test_a_record_says_what_was_done_and_how_it_was_judged(tmp_path: Path) -> None:
    record = append(tmp_path, CONTENT)
    stored = json.loads(file(tmp_path, 1).read_text())
    assert stored == record.as_json()
    assert (stored["schema"], stored["number"], stored["previous"]) == (
        "mixunlearn.deletion-record/1",
        1,
        None,
    )
    assert stored["configuration"]["from"] == "digits/4"
    assert stored["measured"]["after"] == {"acc/forget": None}
    assert read_all(tmp_path) == [record]


def test_each_record_names_the_one_before(tmp_path: Path) -> None:
    first, second = put(tmp_path, "t1", "t2")
    chain = verify(tmp_path, head=first)
    assert [each.previous for each in chain.records] == [None, first]
    assert (chain.head, list(chain.problems)) == (second, [])


def test_a_request_that_is_repeated_adds_no_record(tmp_path: Path) -> None:
    put(tmp_path, "t1", "t2")
    again = append(tmp_path, CONTENT | {"token": "t1", "seconds": 99.0})
    assert (again.number, again.seconds) == (1, 12.5)
    assert len(read_all(tmp_path)) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"ids": [1, 2]},
        {"seconds": -1},
        {"seconds": "12"},
        {"started": "yesterday"},
        {"model": CONTENT["model"] | {"after": "xyz"}},
        {"forget": CONTENT["forget"] | {"rows": [3]}},
    ],
)
def test_what_the_schema_does_not_allow_is_not_written(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="validation error"):
        append(tmp_path, CONTENT | wrong)
    assert not (tmp_path / "records").exists()


def removed(home: Path) -> None:
    file(home, 2).unlink()


def swapped(home: Path) -> None:
    first, second = file(home, 2).read_text(), file(home, 3).read_text()
    file(home, 2).write_text(second)
    file(home, 3).write_text(first)


def doubled(home: Path) -> None:
    file(home, 4).write_text(file(home, 2).read_text())


def added(home: Path) -> None:
    """A record of another chain, whose own digest is right."""
    other = home / "other"
    put(other, *"wxyz")
    file(home, 4).write_text(file(other, 4).read_text())


def cut_short(home: Path) -> None:
    file(home, 3).write_text(file(home, 3).read_text()[:100])


def with_a_key_twice(home: Path) -> None:
    text = file(home, 3).read_text()
    file(home, 3).write_text(text.replace("{", '{"seconds": 1.0,', 1))


def beside(home: Path) -> None:
    (home / "records" / "000002 copy.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda home: edit(home, 2, seconds=1.0), "000002.json: its content does not match"),
        (lambda home: edit(home, 2, model={}), "000002.json: is no record of schema"),
        (removed, "record 2 is missing"),
        (swapped, "000002.json: holds record 3: it was renamed or copied"),
        (doubled, "000004.json: holds record 2: it was renamed or copied"),
        (added, "000004.json: does not follow record 3"),
        (cut_short, "000003.json: is broken"),
        (with_a_key_twice, "000003.json: is broken: a key is there twice"),
        (beside, "000002 copy.json: is no record of the chain"),
        (lambda home: file(home, 4).mkdir(), "000004.json: cannot be read: Is a directory"),
    ],
)
def test_a_change_shows_and_stops_the_chain(
    tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    put(tmp_path, "t1", "t2", "t3")
    change(tmp_path)
    assert verify(tmp_path).problems[0].startswith(said)
    with pytest.raises(CorruptError, match="restore the folder from a backup"):
        append(tmp_path, CONTENT | {"token": "new"})


def test_a_chain_that_is_cut_or_written_anew_shows_only_by_a_digest_kept_elsewhere(
    tmp_path: Path,
) -> None:
    *_, head = put(tmp_path, "t1", "t2")
    file(tmp_path, 2).unlink()
    assert not verify(tmp_path).problems
    assert "was cut at its end, or written anew" in verify(tmp_path, head).problems[0]
    put(tmp_path, "other")
    assert not verify(tmp_path).problems
    assert verify(tmp_path, head).problems


def test_processes_that_write_at_once_make_one_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    tokens = [f"t{number}" for number in range(8)]
    writers = [context.Process(target=put, args=(tmp_path, *tokens[n::2])) for n in (0, 1)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    chain = verify(tmp_path)
    assert not chain.problems
    assert sorted(each.token for each in chain.records) == tokens


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    put(tmp_path, "t1")
    left = tmp_path / "records" / ".000002.json.0123.tmp"
    left.write_text("half")
    put(tmp_path, "t2")
    assert not left.exists()
    assert not verify(tmp_path).problems


def test_a_forget_set_is_confirmed_by_its_digest_with_the_key_alone(tmp_path: Path) -> None:
    digest = forget_digest(tmp_path, [3, 1, 2])
    assert digest == forget_digest(tmp_path, [1, 2, 3, 3])
    assert digest != forget_digest(tmp_path, [1, 2])
    assert digest != forget_digest(tmp_path / "other", [1, 2, 3])
    assert forget_digest(tmp_path, b"1") != forget_digest(tmp_path, b"2")
    key = tmp_path / "records" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(bytes.fromhex(key.read_text())) == 32


def test_a_damaged_key_is_never_replaced(tmp_path: Path) -> None:
    forget_digest(tmp_path, [1])
    key = tmp_path / "records" / "key"
    key.write_text("12")
    with pytest.raises(CorruptError, match="is not a key of 32 bytes; restore it from a backup"):
        forget_digest(tmp_path, [1])
    assert key.read_text() == "12"
