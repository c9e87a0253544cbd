"""`mixunlearn record`: what it says of a chain, of a copy, and of weights."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from distributed.requests.record import append
from tests.distributed.test_deletion_records import CONTENT, edit, file, put
from tests.fixtures import Command

WEIGHTS = b"weights"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of a request: a copy of record 1, beside the weights."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    model: dict[str, Any] = CONTENT["model"] | {"file": hashlib.sha256(WEIGHTS).hexdigest()}
    append(tmp_path, CONTENT | {"model": model})
    (folder / "record.json").write_bytes(file(tmp_path, 1).read_bytes())
    return folder


def test_a_chain_that_holds(mixunlearn: Command, tmp_path: Path) -> None:
    first, second = put(tmp_path, "t1", "t2")
    done = mixunlearn("record", "verify", "--home", str(tmp_path), "--head", first, "--json")
    assert done.code == 0
    assert f"2 records, the chain holds; 1 record added since {first}" in done.out
    assert done.result == {"records": 2, "head": second, "problems": []}


def test_a_chain_that_does_not_hold(mixunlearn: Command, tmp_path: Path) -> None:
    put(tmp_path, "t1", "t2")
    edit(tmp_path, 1, seconds=1.0)
    done = mixunlearn("record", "verify", "--home", str(tmp_path), "--json")
    assert done.code == 1
    assert done.out.startswith("000001.json: its content does not match its digest")
    assert "the chain does not hold: 1 problem" in done.out


def test_a_copy_and_its_weights_are_as_they_were(
    mixunlearn: Command, tmp_path: Path, out: Path
) -> None:
    words = ("record", "verify", str(out / "record.json"), "--home", str(tmp_path))
    assert (
        "record.json is in the chain; the weights beside it are its own" in mixunlearn(*words).out
    )
    (out / "model.safetensors").write_bytes(b"other")
    done = mixunlearn(*words)
    assert done.code == 1
    assert f"{out}: the weights (model.safetensors) are not those of record 1" in done.out
    (out / "model.safetensors").unlink()
    done = mixunlearn(*words)
    assert (done.code, "no weights beside it" in done.out) == (0, True)


def test_a_copy_of_another_chain_names_what_differs(
    mixunlearn: Command, tmp_path: Path, out: Path
) -> None:
    append(tmp_path / "other", CONTENT | {"seconds": 3.0})
    copy = out / "record.json"
    copy.write_bytes(file(tmp_path / "other", 1).read_bytes())
    (out / "model.safetensors").unlink()
    done = mixunlearn("record", "verify", str(copy), "--home", str(tmp_path))
    assert done.code == 1
    assert "is not record 1 of the chain; what differs: model, seconds, digest" in done.out


def test_records_are_listed(mixunlearn: Command, tmp_path: Path) -> None:
    put(tmp_path, "t1")
    done = mixunlearn("record", "list", "--home", str(tmp_path), "--json")
    assert done.code == 0
    assert done.out.splitlines()[0] == "1  2026-03-01T10:02:00.5+00:00  march  37  unverified"
    assert json.dumps(done.result).count("march") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check",), "record = 'check': must be verify or list"),
        (("list", "--head", "a" * 64), "record = 'list': takes neither FILE nor --head"),
        (("verify", "--head", "xyz"), "--head = 'xyz': must be the 64 digits"),
        (("verify", "nowhere.json"), "FILE = 'nowhere.json': No such file or directory"),
        (("verify", "--home", "elsewhere"), "--home = 'elsewhere': has no deletion records"),
    ],
)
def test_bad_words_cost_one_line(
    mixunlearn: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "runs", "t1")
    done = mixunlearn("record", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"mixunlearn: {said}")
    assert len(done.err.splitlines()) == 1
