"""Folders on this machine and on an S3 server: the same promises on both."""

import pickle
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mixunlearn.errors import InputError, MissingError, MixUnlearnError
from mixunlearn.files import Files, digest
from tests.fixtures import S3

REFUSED = "endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1"


@pytest.fixture(params=["local", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    """A folder that does not exist yet, with a name that must be quoted in an address."""
    if request.param == "local":
        return Files.of(tmp_path / "a b#c?d%41")
    server: S3 = request.getfixturevalue("s3")
    return Files.of(server.uri(f"files/{tmp_path.name}"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an empty file, a large one, one in a sub-folder, and a marker."""
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "empty").write_bytes(b"")
    (folder / "large").write_bytes(bytes(range(256)) * 50_000)
    (folder / "sub" / "small").write_text("small")
    (folder / "marker").write_text("whole")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_what_is_written_is_read_and_replaced_whole(files: Files) -> None:
    files.write("sub/a.json", b"first")
    files.write("sub/a.json", b"second")
    files.write("empty", b"")
    assert files.read("sub/a.json") == (files / "sub").read("a.json") == b"second"
    assert files.read("empty") == b""
    assert files.has("empty")
    assert not files.has("sub")
    assert files.children() == ["empty", "sub"]


def test_what_is_not_there_is_empty_or_missing(files: Files) -> None:
    assert files.children() == (files / "nothing").children() == []
    assert not files.has("nothing")
    with pytest.raises(MissingError, match="a file does not exist"):
        files.read("nothing")
    (files / "nothing").delete()


def test_a_folder_goes_there_and_back(files: Files, folder: Path, tmp_path: Path) -> None:
    files.upload(folder, marker="marker")
    files.download(tmp_path / "back" / "copy", marker="marker")
    assert content(tmp_path / "back" / "copy") == content(folder)
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["copy"]
    files.delete()
    assert files.children() == []


def test_a_folder_without_its_marker_is_not_there(
    files: Files, folder: Path, tmp_path: Path
) -> None:
    (folder / "marker").unlink()
    with pytest.raises(FileNotFoundError):
        files.upload(folder, marker="marker")
    assert files.has("large")
    with pytest.raises(MissingError, match=r"marker.* does not exist"):
        files.download(tmp_path / "copy", marker="marker")
    assert not (tmp_path / "copy").exists()


def test_a_download_that_fails_leaves_nothing(files: Files, folder: Path, tmp_path: Path) -> None:
    files.upload(folder, marker="marker")
    blocker = tmp_path / "blocker"
    blocker.write_text("a file where a folder is needed")
    with pytest.raises(MixUnlearnError):
        files.download(blocker / "copy", marker="marker")
    assert blocker.is_file()


def test_requiring_leaves_nothing(files: Files) -> None:
    files.require()
    assert files.children() == []


def test_it_travels_as_its_address(files: Files) -> None:
    inner = files / "inner"
    inner.write("a", b"1")
    back = pickle.loads(pickle.dumps(inner))
    assert back == inner
    assert back.read("a") == b"1"
    assert back.filesystem is inner.filesystem


@pytest.mark.parametrize("name", ["..", "a/../b", "/etc", "a//b", "a/", "", ".", "a\\b"])
def test_nothing_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    files = Files.of(tmp_path)
    verbs: list[Callable[[str], object]] = [files.__truediv__, files.read, files.has]
    for verb in verbs:
        with pytest.raises(InputError, match="leads out of the folder"):
            verb(name)


def test_a_path_and_its_address_are_one_place(tmp_path: Path) -> None:
    assert Files.of(tmp_path) == Files.of(str(tmp_path)) == Files.of(tmp_path.as_uri())
    assert Files.of(tmp_path).is_local
    assert Files.of(tmp_path).path == str(tmp_path)
    assert not Files.of("s3://bucket/a").is_local


@pytest.mark.parametrize(
    "address",
    [
        "foo://KEY:SECRET@place/a",
        "s3://KEY:SECRET@buc ket/a",
        "s3://KEY:SEC'@ SECRET@bucket/a",
        "s3://KEY:SEC/SECRET@bucket/a",
        "s3://bucket/a?secret_key=SECRET",
        "s3://KEY:SECRET@bucket/a?nonsense=SECRET",
        "s3://",
        "file://elsewhere/a",
    ],
)
def test_an_address_nobody_can_use_is_refused_in_one_line_without_secrets(address: str) -> None:
    with pytest.raises(InputError, match=r"^storage\.files = ") as caught:
        Files.of(address).require()
    shown = f"{caught.value}{Files.of(address)}{Files.of(address)!r}"
    assert "SECRET" not in shown
    assert "KEY" not in shown
    assert "\n" not in shown
    assert caught.value.__cause__ is None  # its text may contain credentials


def test_a_bucket_that_is_not_there_is_refused(s3: S3) -> None:
    address = s3.uri("a").replace("s3://bucket", "s3://KEY:SECRET@no-bucket")
    with pytest.raises(InputError, match="bucket does not exist; correct the address") as caught:
        Files.of(address).require()
    assert "SECRET" not in str(caught.value)


def test_a_dead_endpoint_is_an_error_within_seconds() -> None:
    start = time.monotonic()
    with pytest.raises(MixUnlearnError, match=r"not connect.*; try again later") as caught:
        Files.of(f"s3://KEY:SECRET@bucket/a?{REFUSED}").require()
    assert time.monotonic() - start < 15
    assert "SECRET" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, InputError)


def test_a_digest_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"first")
    first = digest(path)
    assert digest(path) == first
    path.write_bytes(b"second")
    assert digest(path) != first


def test_a_patient_folder_waits_until_its_address_answers_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, aside = tmp_path / "files", tmp_path / "aside"
    files = Files.of(folder).patiently()
    files.write("a", b"before")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) % 3 == 0:
            folder.unlink()
            aside.rename(folder)

    monkeypatch.setattr("mixunlearn.patience.time.sleep", pause)
    for there, name, text in ((files, "a", b"after"), (files / "b", "c", b"new")):
        folder.rename(aside)
        folder.touch()
        there.write(name, text)
    assert len(pauses) == 6
    assert (folder / "a").read_bytes() == b"after"
    assert (folder / "b" / "c").read_bytes() == b"new"
    # One line each, not one for each try.
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(f"{files}: ")
    assert first.endswith("; waiting for it")
    assert second.startswith(f"{files / 'b'}: ")


def test_what_does_not_come_back_by_itself_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixunlearn.patience.time.sleep", lambda _: pytest.fail("it waited"))
    with pytest.raises(MissingError):
        Files.of(tmp_path).patiently().read("a")
    full = Files.of(tmp_path).patiently()
    (tmp_path / "a").mkdir()
    monkeypatch.setattr(Files, "_put", lambda *_: raise_(OSError(28, "No space left on device")))
    with pytest.raises(MixUnlearnError, match="No space left on device"):
        full.write("b", b"")


def test_a_patient_folder_gives_up_with_an_error_after_which_the_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixunlearn.patience.PATIENCE_S", 0.0)
    monkeypatch.setattr("mixunlearn.patience.RETRY_S", 0.0)
    (tmp_path / "file").touch()
    for files, code in (
        (Files.of(tmp_path / "file"), 2),
        (Files.of(tmp_path / "file").patiently(), 1),
    ):
        with pytest.raises(MixUnlearnError) as error:
            files.write("a", b"")
        assert error.value.exit_code == code


def raise_(error: Exception) -> None:
    raise error
