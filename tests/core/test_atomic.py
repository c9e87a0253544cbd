"""A file that is replaced: the old content or the new one, and nothing else in the folder."""

import os
import stat
from pathlib import Path

import pytest

from mixunlearn.atomic import LONGEST_NAME, replacing, sync

NAMES = {
    "plain": "summary.json",
    "hidden": ".note",
    "unicode": "Übersicht 研究 🙂.html",
    "long": "n" * LONGEST_NAME,
    "long unicode": "研" * (LONGEST_NAME // 3),
    "long after one byte": "n" + "🙂" * 63,
    "not UTF-8": os.fsdecode(b"caf\xe9.json"),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_the_new_content_appears_when_it_is_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for content in ("old", "new"):
        before = path.read_text() if path.exists() else None
        with replacing(path) as temporary:
            temporary.write_text(content)
            assert temporary.parent == path.parent
            assert temporary.name.startswith(".")
            assert (path.read_text() if path.exists() else None) == before
        assert path.read_text() == content
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), ValueError(), KeyboardInterrupt()])
def test_an_error_leaves_the_old_content_and_no_other_file(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")

    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert caught.value is error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_at_the_sync_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_all_bytes_are_synced_before_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    synced = []

    def record(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", record)
    with replacing(path) as temporary:
        temporary.write_text("content")
    assert synced == [(path.stat().st_ino, len("content"), False)]


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "summary.json"
    with replacing(path) as temporary:
        temporary.write_text("content")
    assert path.read_text() == "content"


def test_a_file_where_a_folder_is_needed_is_the_error(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("old")
    with (
        pytest.raises((FileExistsError, NotADirectoryError)),
        replacing(blocker / "summary.json") as temporary,
    ):
        temporary.write_text("new")
    assert blocker.read_text() == "old"


def test_a_folder_in_the_way_is_the_error_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.mkdir()
    with pytest.raises(IsADirectoryError), replacing(path) as temporary:
        temporary.write_text("new")
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_written_is_an_error_and_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_the_rights_are_those_of_any_new_file(tmp_path: Path) -> None:
    usual, path = tmp_path / "usual", tmp_path / "summary.json"
    usual.write_text("")
    with replacing(path) as temporary:
        temporary.write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_a_folder_can_be_synced(tmp_path: Path) -> None:
    sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "absent")
