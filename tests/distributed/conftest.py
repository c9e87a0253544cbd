"""What tests of sweeps share: the command, a Ray, databases for MLflow and for studies."""

import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from PIL import Image

from distributed.cli import app as cli
from distributed.tracking import server
from tests.databases import Copies
from tests.fixtures import Command, Run
from tests.mistakes import Judge, old_home
from tests.postgres import started_postgres
from tests.warm import COLD, PARENT


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("tests.local_ray")


@pytest.fixture(autouse=True)
def no_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command print the same on a slow machine, which takes long to check its input."""
    monkeypatch.setattr("distributed.runtime.progress.FIRST_S", 600.0)


@pytest.fixture
def mixunlearn(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the console script's command in this process."""

    def run(*words: str) -> Run:
        monkeypatch.setattr("sys.argv", ["mixunlearn", *words])
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        capfd.readouterr()
        before = os.umask(0o022)
        try:
            code = cli.main()
        finally:
            os.umask(before)
        captured = capfd.readouterr()
        return Run(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture(scope="session", autouse=True)
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """New MLflow databases are copies of one that MLflow has made, unless TESTS_COLD=1."""
    with pytest.MonkeyPatch.context() as patch:
        if not COLD:
            patch.setattr(server, "make_database", Copies(tmp_path_factory.mktemp("databases")))
        yield


@pytest.fixture(scope="session", autouse=True)
def newest_schema() -> Iterator[None]:
    """Optuna asks only once which schema of a database is its newest, not at each opening.

    To find out it executes all its migrations, in most of the time that an opening takes.
    """
    storage = sys.modules.get("optuna.storages._rdb.storage")  # not if it is still to be imported
    with pytest.MonkeyPatch.context() as patch:
        if storage and not COLD:
            found = storage._VersionManager.get_head_version
            known: list[str] = []

            def newest(manager: object) -> str:
                if not known:
                    known.append(found(manager))
                return known[0]

            patch.setattr(storage._VersionManager, "get_head_version", newest)
        yield


@pytest.fixture(autouse=True)
def rehearsals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes in which a user's model is rehearsed are forks, unless TESTS_COLD=1."""
    if module := sys.modules.get("distributed.plan.rehearsal"):  # not for tests that need none
        monkeypatch.setattr(module, "_python", lambda: PARENT.quick)
        monkeypatch.setattr(module, "IDLE_S", 120.0)  # the work of a fork is not seen


@pytest.fixture(autouse=True)
def blank_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, but drawn blank: to draw one takes a second. Not with `pictures`."""
    figure = sys.modules.get("matplotlib.figure")  # not imported for tests that need none
    if figure and not request.node.get_closest_marker("pictures"):
        monkeypatch.setattr(figure.Figure, "savefig", blank)


def blank(figure: object, target: Path | BinaryIO | io.StringIO, **options: object) -> None:
    """Save a white picture in place of a figure; same arguments as Matplotlib's `savefig`."""
    if isinstance(target, io.StringIO):
        target.write('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 10"></svg>')
        return
    Image.new("L", (1000, 10), 255).save(target, "PNG")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Return a function that gives the path under which a folder can be read, but not written."""
    view = tmp_path / "read-only view"
    modes: dict[Path, int] = {}

    def show(folder: Path) -> Path:
        if os.geteuid():
            modes.update({path: path.stat().st_mode for path in (folder, *folder.rglob("*"))})
            for path, mode in modes.items():
                path.chmod(mode & ~0o222)
            return folder
        # Modes do not bind root: a read-only mount does.
        view.mkdir()
        command = ["mount", "--bind", "-o", "ro", str(folder), str(view)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            view.rmdir()
            pytest.skip("root may not mount a folder read-only here")
        return view

    yield show
    if view.exists():
        subprocess.run(["umount", "--lazy", str(view)], check=True)
    for path, mode in modes.items():
        path.chmod(mode)


@pytest.fixture(scope="session")
def kept_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return old_home(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def judge(kept_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Types mistakes in a folder next to a finished study."""
    folder = tmp_path / "work"
    folder.mkdir()
    return Judge(folder, kept_home, monkeypatch)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of an empty database on a PostgreSQL server on this machine."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # one that another user can enter
    try:
        with started_postgres(folder) as address:
            yield address
    finally:
        shutil.rmtree(folder)
