"""The folder of a Ray on this machine: where it is, who enters it, and what a kill leaves."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed.cluster import ray_folder
from distributed.cluster.ray_folder import LOCK, PREFIX, private_folder
from mixunlearn.errors import MixUnlearnError

DRIVER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from distributed.cluster.ray_folder import private_folder
with private_folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The place for the folders of this test; its name is short."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("TMPDIR", short)
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        yield Path(short)


def test_ray_s_folder_is_short_and_private(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with private_folder() as folder:
        assert folder.parent == place
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    monkeypatch.setenv("RAY_TMPDIR", f"{place}/missing")  # then the next one
    with private_folder() as folder:
        assert folder.parent == place
    long = tmp_path / ("t" * 90)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    with private_folder() as folder:
        assert folder.parent == Path("/tmp")
    assert list(long.iterdir()) == []


def test_no_folder_for_ray_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_folder, "LONGEST_PLACE", 3)
    with pytest.raises(MixUnlearnError, match=r"/tmp has more than 3 bytes.*RAY_TMPDIR") as caught:
        private_folder().__enter__()
    assert "\n" not in str(caught.value)


def test_what_a_killed_driver_left_is_deleted_at_the_next_start(place: Path) -> None:
    words = [sys.executable, "-c", DRIVER, str(Path(__file__).parents[2])]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout
        left = Path(driver.stdout.readline().strip())
        agent = place / "ray" / "agent.py"
        agent.parent.mkdir()
        agent.write_text("import sys; print(flush=True); sys.stdin.read()")
        started = [sys.executable, str(agent), f"--session={left}/s/session"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(started, **pipes) as running:  # type: ignore[call-overload]
            running.stdout.readline()
            with private_folder():  # the driver still runs
                assert left.exists()
                assert running.poll() is None
            driver.kill()
            driver.wait()
            with private_folder() as folder:
                assert not left.exists()
                assert running.wait(10) == -9
                assert folder.exists()


def test_a_folder_that_is_kept_is_deleted_at_the_next_start(place: Path) -> None:
    with private_folder(keep=True) as kept:
        pass
    assert kept.exists()
    (place / f"{PREFIX}other").mkdir()  # not made here: it has no lock
    with private_folder():
        assert not kept.exists()
        assert not (kept / LOCK).exists()
    assert [path.name for path in place.iterdir()] == [f"{PREFIX}other"]
