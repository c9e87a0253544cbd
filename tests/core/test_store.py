"""The store: whole entries or none, each verified by its digest, on one machine and on two."""

import logging
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mixunlearn.errors import CorruptError, MissingError, MixUnlearnError
from mixunlearn.files import Files
from mixunlearn.signature import seed_for, signature
from mixunlearn.store import MANIFEST, RECORD, TENSORS, Store
from tests.fixtures import S3
from tests.warm import PARENT

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
        "s.publish = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"s.Store(Path(sys.argv[1])).write('models', {PAYLOAD!r})"
    )
    run = subprocess.run([*PARENT.quick, "-c", script, str(store.root)], check=False)
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
            [*PARENT.quick, "-c", script, str(store.root)],
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


# Damage


def replace(path: Path, content: bytes) -> None:
    """Write a file again: it counts as another file, even within one tick of the clock."""
    path.rename(path.with_suffix(".old"))
    path.write_bytes(content)
    path.with_suffix(".old").unlink()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    replace(path, bytes(content))


def truncate(path: Path) -> None:
    replace(path, path.read_bytes()[:-3])


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a flipped bit": lambda entry: flip(entry / TENSORS),
    "a truncated file": lambda entry: truncate(entry / TENSORS),
    "a changed record": lambda entry: flip(entry / RECORD),
    "a lost file": lambda entry: (entry / TENSORS).unlink(),
    "a lost manifest": lambda entry: (entry / MANIFEST).unlink(),
    "an empty manifest": lambda entry: replace(entry / MANIFEST, b""),
    "another manifest": lambda entry: replace(entry / MANIFEST, b"[]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_removed_with_one_warning_and_made_again(
    store: Store, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry = write(store)
    assert store.sound("models", PAYLOAD)
    DAMAGE[damage](entry)
    assert not store.sound("models", PAYLOAD)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(entry) in caplog.text
    assert list((store.root / "models").iterdir()) == []
    assert not store.sound("models", PAYLOAD)
    write(store)
    assert store.sound("models", PAYLOAD)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("damage", DAMAGE)
def test_writing_replaces_a_damaged_entry(store: Store, damage: str) -> None:
    DAMAGE[damage](write(store))
    write(store)
    assert store.read("models", PAYLOAD, command=COMMAND).record == {"seconds": 1.5}


def test_a_sound_entry_is_hashed_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write(store)
    assert store.sound("models", PAYLOAD)
    monkeypatch.setattr("hashlib.file_digest", None)
    assert store.sound("models", PAYLOAD)
    assert store.read("models", PAYLOAD, command=COMMAND).record == {"seconds": 1.5}


@pytest.mark.parametrize("kind", ["..", "../models", "a/b", "", "/etc", "a b", ".hidden"])
def test_a_kind_is_a_plain_name(store: Store, kind: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        store.write(kind, PAYLOAD)


# Two machines without a common disk


@pytest.fixture(params=["s3", "folder"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return Files.of(tmp_path / "remote")
    server: S3 = request.getfixturevalue("s3")
    return Files.of(server.uri(f"store/{tmp_path.name}"))


@pytest.fixture
def here(tmp_path: Path, remote: Files) -> Store:
    return Store(tmp_path / "here", remote)


@pytest.fixture
def there(tmp_path: Path, remote: Files) -> Store:
    return Store(tmp_path / "there", remote)


def shared(store: Store) -> Files:
    assert store.remote
    return store.remote / "models" / signature(PAYLOAD)


def test_what_one_machine_writes_the_other_reads(here: Store, there: Store) -> None:
    assert not there.has("models", PAYLOAD)
    assert not there.sound("models", PAYLOAD)
    write(here)
    assert there.has("models", PAYLOAD)
    entry = there.read("models", PAYLOAD, command=COMMAND)
    np.testing.assert_array_equal(entry.tensors["weight"], [[0, 1, 2], [3, 4, 5]])
    assert entry.path == there.path("models", PAYLOAD)
    assert there.sound("models", PAYLOAD)
    assert os.listdir(there.root / "models") == [signature(PAYLOAD)]  # noqa: PTH208


def test_a_damaged_copy_is_replaced_by_the_remote_one(here: Store, there: Store) -> None:
    write(here)
    flip(here.path("models", PAYLOAD) / TENSORS)
    assert here.sound("models", PAYLOAD)
    assert here.read("models", PAYLOAD, command=COMMAND).record == {"seconds": 1.5}
    assert there.sound("models", PAYLOAD)


def test_a_damaged_remote_copy_is_removed_and_made_again(
    here: Store, there: Store, caplog: pytest.LogCaptureFixture
) -> None:
    write(here)
    content = bytearray(shared(here).read(TENSORS))
    content[-2] ^= 1
    shared(here).write(TENSORS, bytes(content))
    assert not there.sound("models", PAYLOAD)
    assert [record.getMessage() for record in caplog.records] == [
        f"{shared(here)}: {TENSORS} was changed; removed, to be fetched or made again"
    ]
    assert shared(here).children() == []
    assert not (there.root / "models" / signature(PAYLOAD)).exists()
    write(there)
    assert shared(here).has(MANIFEST)
    assert there.sound("models", PAYLOAD)


def test_a_damaged_remote_copy_is_never_read(here: Store, there: Store) -> None:
    write(here)
    shared(here).write(RECORD, b"{}")
    with pytest.raises(CorruptError, match=r"record\.json was changed"):
        there.read("models", PAYLOAD, command=COMMAND)


def test_an_upload_that_was_killed_is_no_entry_and_is_finished_later(
    here: Store, there: Store
) -> None:
    entry = write(Store(here.root))
    shared(here).write(TENSORS, (entry / TENSORS).read_bytes())
    assert not there.has("models", PAYLOAD)
    assert not there.sound("models", PAYLOAD)
    with pytest.raises(MissingError, match="make it"):
        there.read("models", PAYLOAD, command=COMMAND)
    assert here.sound("models", PAYLOAD)
    assert there.sound("models", PAYLOAD)


def test_writing_again_uploads_what_only_this_machine_has(here: Store, there: Store) -> None:
    write(Store(here.root))
    write(here)
    assert there.has("models", PAYLOAD)


def test_a_dead_remote_is_an_error_without_secrets(tmp_path: Path) -> None:
    query = "endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1"
    store = Store(tmp_path, Files.of(f"s3://KEY:SECRET@bucket/a?{query}"))
    with pytest.raises(MixUnlearnError, match="not connect") as caught:
        store.read("models", PAYLOAD, command=COMMAND)
    assert "SECRET" not in str(caught.value)
    assert "\n" not in str(caught.value)


# Names made from content


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
