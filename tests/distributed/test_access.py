"""Who can reach Ray, tried as another user of this machine."""

import errno
import importlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from distributed.cli.options import home_folder
from distributed.cluster import access
from distributed.cluster.checkout import ROOT
from mixunlearn.atomic import replacing
from mixunlearn.errors import InputError
from tests.warm import PARENT

STRANGER = 54321  # no account has this number
# What a stranger sees of processes, whose command lines anybody may read, and of their folders.
SPY = """
Path = pathlib.Path
seen = {"arguments": [], "environments": [], "readable": [], "writable": []}
for pid in sys.argv[1:]:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\\0")
    seen["arguments"] += words
    try:
        seen["environments"].append(Path(f"/proc/{pid}/environ").read_text())
    except PermissionError:
        pass
    for word in words:
        path = Path(word.rpartition("=")[2])
        if "session_" in word and path.is_absolute():
            for place in (path, path.parent):
                seen["readable"] += [str(place)] if os.access(place, os.R_OK) else []
                seen["writable"] += [str(place)] if os.access(place, os.W_OK) else []
print(json.dumps(seen))
"""
BECOME = f"""
import json, os, pathlib, sys
os.setgroups([]), os.setgid({STRANGER}), os.setuid({STRANGER})
"""
READ = """
try:
    print(open(sys.argv[1], errors="replace").read(), end="")
except OSError as error:
    print(type(error).__name__)
"""
# A process that has talked to a cluster, and then starts a Ray of its own.
AFTER_A_CLUSTER = """
import os
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "1" * 32}
import ray
from ray._raylet import AuthenticationTokenLoader
AuthenticationTokenLoader.instance().get_raw_token(ignore_auth_mode=True)
del os.environ["RAY_AUTH_TOKEN"]
from distributed.cluster.connection import connected
with connected(None):
    print(ray.is_initialized())
"""
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")


def as_stranger(script: str, *words: str) -> str:
    """Return what a script prints when another user runs it."""
    return subprocess.run(
        # It changes the user itself: a stranger may not be able to start this Python.
        [sys.executable, "-IS", "-c", BECOME + script, *words],
        cwd="/",
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@pytest.fixture
def no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any token; returns where Ray keeps it."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    return tmp_path / ".ray" / "auth_token"


@as_root
@pytest.mark.ray
def test_another_user_finds_no_way_into_ray(shared_ray: None) -> None:
    token = os.environ["RAY_AUTH_TOKEN"]
    loader = importlib.import_module("ray._raylet").AuthenticationTokenLoader.instance()
    assert loader.get_raw_token(ignore_auth_mode=True) == token  # it is the one that Ray wants
    mine = psutil.Process().children(recursive=True)
    pids = [str(each.pid) for each in mine if "session_" in " ".join(each.cmdline())]
    assert pids
    seen = json.loads(as_stranger(SPY, *pids))
    assert seen["environments"] == seen["readable"] == seen["writable"] == []
    assert token not in " ".join(seen["arguments"])


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_s_token_is_not_kept_for_a_local_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "30")
    words = [PARENT.python, "-c", AFTER_A_CLUSTER]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stdout.splitlines()[-1:] == ["True"], run.stderr


@as_root
@pytest.mark.ray
def test_the_token_is_in_no_file(shared_ray: None) -> None:
    worker = importlib.import_module("ray._private.worker")
    folder = Path(worker._global_node.get_session_dir_path())
    token = os.environ["RAY_AUTH_TOKEN"].encode()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if token in path.read_bytes()]


def test_a_new_token_is_on_no_disk(no_token: Path) -> None:
    access.make_token()
    first = os.environ["RAY_AUTH_TOKEN"]
    assert len(first) == 64
    assert not no_token.exists()
    access.make_token()  # the processes of one Ray must have the same
    assert os.environ["RAY_AUTH_TOKEN"] == first


def test_the_token_is_where_ray_keeps_it(no_token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert access.token() == {}
    no_token.write_text("rose\n")
    no_token.chmod(0o600)
    assert access.token() == {"Authorization": "Bearer rose"}
    monkeypatch.setenv("RAY_AUTH_TOKEN", "lily")
    assert access.token() == {"Authorization": "Bearer lily"}
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert access.token() == {}
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(no_token.with_name("missing")))
    with pytest.raises(InputError, match="no such file"):
        access.token()


@pytest.fixture
def entered() -> Iterator[Path]:
    """A folder that every user of this machine can enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def write_records(home: Path) -> list[Path]:
    """Write files as a study does, by three libraries; return them."""
    files = [home / "studies" / "s" / name for name in ("summary.json", "study.db", "spool")]
    with replacing(files[0]) as temporary:
        temporary.write_text("record")
    with closing(sqlite3.connect(files[1])) as database:
        database.execute("CREATE TABLE record (id)")
    with files[2].open("ab") as file:
        file.write(b"record")
    return files


@as_root
def test_another_user_reads_nothing_that_a_command_writes(entered: Path, usual_umask: None) -> None:
    for name in ("new", "old"):
        home = home_folder(entered / name)
        if name == "old":  # made by hand, or by an earlier version
            home.mkdir()
            home.chmod(0o755)
        for path in write_records(home):
            assert "PermissionError" in as_stranger(READ, str(path))
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.parent.stat().st_mode & 0o777 == 0o700


@as_root
def test_a_home_given_to_a_group_is_the_group_s(entered: Path, usual_umask: None) -> None:
    home = entered / "home"
    home.mkdir()
    os.chown(home, 0, STRANGER)  # which is also the number of the stranger's group
    home.chmod(0o2770)
    for path in write_records(home_folder(home)):
        assert "record" in as_stranger(READ, str(path))
        assert path.stat().st_mode & 0o007 == 0
    assert home_folder(entered / "other") == entered / "other"  # not for the next home
    assert write_records(entered / "other")[0].stat().st_mode & 0o777 == 0o600


@as_root
def test_a_token_that_others_can_read_is_hidden_from_them(
    no_token: Path,
    entered: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = entered / "token"
    path.write_text("rose")
    path.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert as_stranger(READ, str(path)) == "rose"
    assert access.token() == {"Authorization": "Bearer rose"}
    assert "PermissionError" in as_stranger(READ, str(path))
    (said,) = caplog.messages
    assert "replace it" in said


def test_a_token_that_cannot_be_hidden_is_refused(
    no_token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_token.write_text("rose")
    no_token.chmod(0o640)

    def chmod(path: Path, mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", chmod)  # as for a file of another user
    with pytest.raises(InputError, match="other users can read it"):
        access.token()


def test_without_a_home_there_is_no_token(monkeypatch: pytest.MonkeyPatch, no_token: Path) -> None:
    monkeypatch.delenv("HOME")

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert access.token() == {}
