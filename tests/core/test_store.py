"""The store: whole entries or none, trusted only after their digests."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mixunlearn.errors import CorruptError, MissingError, MixUnlearnError
from mixunlearn.signature import seed_for, signature
from mixunlearn.store import Store

PAYLOAD = {"seed": 1, "model": {"name": "cnn"}}
COMMAND = "mixunlearn references X"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write(store: Store) -> Path:
    tensors = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    return store.write("models", PAYLOAD, tensors=tensors, record={"seconds": 1.5})


def test_what_is_written_is_read(store: Store) -> None:
    path = write(store)
    entry = store.read("models", dict(PAYLOAD), command=COMMAND)
    np.testing.assert_array_equal(entry.tensors["weight"], [[0, 1, 2], [3, 4, 5]])
    assert entry.record == {"seconds": 1.5}
    assert entry.path == path == store.root / "models" / signature(PAYLOAD)


def test_transposed_arrays_keep_their_values(store: Store) -> None:
    array = np.arange(6).reshape(2, 3).T
    store.write("models", PAYLOAD, tensors={"a": array})
    found = store.read("models", PAYLOAD, command=COMMAND).tensors["a"]
    np.testing.assert_array_equal(found, array)


def test_an_entry_is_written_once(store: Store) -> None:
    write(store)
    store.write("models", PAYLOAD, record={"seconds": 9})
    assert store.read("models", PAYLOAD, command=COMMAND).record == {"seconds": 1.5}


def test_a_missing_entry_names_the_command_that_makes_it(store: Store) -> None:
    with pytest.raises(MissingError, match=f"make it: {COMMAND}"):
        store.read("models", PAYLOAD, command=COMMAND)


@pytest.mark.parametrize("name", ["tensors.safetensors", "record.json"])
def test_a_changed_byte_is_detected(store: Store, name: str) -> None:
    path = write(store) / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptError, match=f"{name} was changed; delete .* make it again"):
        store.read("models", PAYLOAD, command=COMMAND)


@pytest.mark.parametrize("content", ["", "{}", "no json"])
def test_a_broken_manifest_is_detected(store: Store, content: str) -> None:
    (write(store) / "manifest.json").write_text(content)
    with pytest.raises(CorruptError, match="cannot be read"):
        store.read("models", PAYLOAD, command=COMMAND)


def test_an_entry_under_anothers_name_is_refused(store: Store) -> None:
    other = {"seed": 2}
    write(store).rename(store.path("models", other))
    with pytest.raises(CorruptError, match="belongs to other settings"):
        store.read("models", other, command=COMMAND)


def test_a_folder_without_manifest_is_not_an_entry_and_is_replaced(store: Store) -> None:
    path = store.path("models", PAYLOAD)
    path.mkdir(parents=True)
    (path / "tensors.safetensors").write_bytes(b"half")
    assert not store.has("models", PAYLOAD)
    write(store)
    assert store.read("models", PAYLOAD, command=COMMAND).record == {"seconds": 1.5}


def test_a_failed_write_leaves_nothing_behind(store: Store) -> None:
    store.root.parent.mkdir(exist_ok=True)
    store.root.write_text("a file is in the way")
    with pytest.raises(MixUnlearnError, match="free space or change --home"):
        write(store)
    assert store.root.read_text() == "a file is in the way"


def test_a_process_killed_while_writing_leaves_no_entry(store: Store) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; import mixunlearn.store as s\n"
        "s._publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"s.Store(Path(sys.argv[1])).write('models', {PAYLOAD!r})"
    )
    run = subprocess.run([sys.executable, "-c", script, str(store.root)], check=False)
    assert run.returncode == -signal.SIGKILL
    assert not store.has("models", PAYLOAD)
    write(store)
    assert store.has("models", PAYLOAD)


def test_two_writers_at_once_leave_one_whole_entry(store: Store) -> None:
    script = (
        "import sys; from pathlib import Path; from mixunlearn.store import Store\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"Store(Path(sys.argv[1])).write('models', {PAYLOAD!r}, record={{'seconds': 1}})"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(store.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n")
    assert [writer.returncode for writer in writers] == [0, 0]
    assert store.read("models", PAYLOAD, command=COMMAND).record == {"seconds": 1}
    assert os.listdir(store.root / "models") == [signature(PAYLOAD)]  # noqa: PTH208


def test_signatures_do_not_depend_on_the_order_of_keys() -> None:
    assert signature({"a": 1, "b": 2}) == signature({"b": 2, "a": 1})
    assert signature({"a": 1}) != signature({"a": 2})
    assert len(signature({})) == 8


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_what_is_not_plain_data_has_no_signature(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        signature(value)


def test_seeds_differ_by_purpose_and_fit_a_generator() -> None:
    seeds = {seed_for("split", i) for i in range(100)} | {seed_for("order", i) for i in range(100)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
