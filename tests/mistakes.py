"""Mistakes at the command line: what was typed in a folder, and the one line that answers it."""

import re
import shlex
import shutil
import sqlite3
import sys
import tarfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import ray

from distributed.cli.app import main
from distributed.tracking.locations import settle

GOLDEN = Path(__file__).parent / "golden" / "home_schema_2.tar.xz"
STUDY = "tiny-c5aac3d3"  # in that home; it has four trials
EXPERIMENT = """\
name: tiny
data: {source: digits, limit: {train: 300}}
model: {name: cnn, width: 4}
task: {kind: class, classes: [0]}
references: {seeds: 2, epochs: 1}
search: {trials: 2, epochs: 1}
"""
PLAN = "name: plan\nexperiments: [experiment.yaml]\n"
COMPARISON = """\
name: small
experiment: {search: {trials: 2, epochs: 1}, references: {seeds: 2, epochs: 1}}
methods: {finetune: , plain: {method: neggrad}}
data: {digits: {data: {source: digits, limit: {train: 300}}, model: {name: cnn, width: 4}}}
tasks: {class: {kind: class, classes: [0]}}
"""
FILES = {"experiment.yaml": EXPERIMENT, "plan.yaml": PLAN, "comparison.yaml": COMPARISON}
# A command that is refused later, for a record it reads, has asked for a lock before.
LOCK = "driver.lock"
VARIABLES = (
    *("MIXUNLEARN_HOME", "MIXUNLEARN_SMTP_PASSWORD", "MIXUNLEARN_WEBHOOK"),
    *("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE"),
    *("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"),
)

Make = Callable[[Path], None]
Content = Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """What was typed, and what is expected.

    Args:
        typed: the words of the command.
        said: how the line on standard error begins; `…` stands for any text.
        make: changes files of the folder before.
        code: the exit code.
        environ: environment variables.
        others: what the lines after the first say, where several mistakes are said at once.
    """

    typed: tuple[str, ...]
    said: str
    make: Make | None = None
    code: int = 2
    environ: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()


def case(line: str, said: str, make: Make | None = None, code: int = 2, **environ: str) -> Mistake:
    return Mistake(typed=tuple(shlex.split(line)), said=said, make=make, code=code, environ=environ)


def several(line: str, said: str, *others: str, make: Make | None = None) -> Mistake:
    return Mistake(typed=tuple(shlex.split(line)), said=said, others=others, make=make)


def quoted(word: str) -> str:
    """Return a word as it is typed in a shell."""
    return shlex.quote(word)


def named(mistake: Mistake) -> str:
    """Return a short name for a test."""
    made = getattr(mistake.make, "__name__", "")
    return " ".join((*mistake.typed, made))[:80].encode("ascii", "replace").decode()


# What may be wrong in the folder


def put(path: str, content: str | bytes) -> Make:
    """Write a file, in place of what is there."""

    def make(folder: Path) -> None:
        target = folder / path
        remove(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def empty_folder(path: str) -> Make:
    """Make a folder, in place of what is there."""

    def make(folder: Path) -> None:
        remove(folder / path)
        (folder / path).mkdir(parents=True)

    return make


def cut_short(path: str) -> Make:
    """Keep the first half of a file."""

    def make(folder: Path) -> None:
        content = (folder / path).read_bytes()
        (folder / path).write_bytes(content[: len(content) // 2])

    return make


def link(path: str, target: str) -> Make:
    """Make a symbolic link, in place of what is there."""

    def make(folder: Path) -> None:
        remove(folder / path)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).symlink_to(target)

    return make


def gone(path: str) -> Make:
    return lambda folder: remove(folder / path)


def all_of(*makes: Make) -> Make:
    def make(folder: Path) -> None:
        for each in makes:
            each(folder)

    return make


def remove(path: Path) -> None:
    """Remove whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# The judge


def old_home(folder: Path) -> Path:
    """Return the kept home of an earlier version: a study with models, two nights, MLflow's runs.

    Without files that no command here reads.
    """
    home = folder / "runs"
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(home, filter="data")
    script = home / "mlflow.sql"
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        database.executescript(script.read_text().replace("HOME", str(home)))
    for path in (script, home / "mlartifacts", home / "studies" / STUDY / "model"):
        remove(path)
    return home


def content(folder: Path) -> Content:
    """Return size, inode and time of the last change of everything below a folder."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        if path.name != LOCK and not path.is_dir():
            key = path.relative_to(folder).as_posix()
            found[key] = (status.st_size, status.st_ino, status.st_mtime_ns)
        elif path.is_dir():
            found[path.relative_to(folder).as_posix()] = (0, status.st_ino, 0)
    return found


def matches(line: str, said: str) -> bool:
    """Return whether a line begins with a text in which `…` stands for any text."""
    return re.match(".*".join(map(re.escape, said.split("…"))), line) is not None


class Judge:
    """Types commands in a folder of its own, next to a finished study.

    Args:
        folder: an empty folder.
        home: the home that is copied into it.
        patch: changes the process for the length of a test.
    """

    def __init__(self, folder: Path, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        shutil.copytree(home, folder / "runs", symlinks=True)
        settle(folder / "runs" / "mlflow.db")  # the first command would, as the home has moved
        for name, text in FILES.items():
            (folder / name).write_text(text)
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        patch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was started"))
        patch.chdir(folder)

    def run(self, words: tuple[str, ...], make: Make | None = None) -> int:
        """Run a command, which must leave all files as they are; return its exit code."""
        if make:
            make(self.folder)
        before = content(self.folder)
        self.patch.setattr(sys, "argv", ["mixunlearn", *words])
        code = main()
        assert content(self.folder) == before
        return code


def assert_refused(mistake: Mistake, judge: Judge, capture: pytest.CaptureFixture[str]) -> None:
    """Type it: one line a mistake, the right exit code, and no file was written or changed."""
    for name, value in mistake.environ.items():
        judge.patch.setenv(name, value)
    code = judge.run(mistake.typed, mistake.make)
    printed = capture.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    for line, said in zip(lines, (mistake.said, *mistake.others), strict=True):
        assert matches(line, f"mixunlearn: {said}"), line
        assert "shows where" not in line  # said of errors that nobody expected
    assert code == mistake.code
