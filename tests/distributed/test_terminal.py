"""Output and files on systems without UTF-8, without an account, without a home."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distributed.cli import app
from distributed.runtime.terminal import show_any_text
from mixunlearn import __main__ as program

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "mixunlearn"]
PLAIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
NOBODY = """
import os, pwd
def none(uid):
    raise KeyError(uid)
pwd.getpwuid = none
from mixunlearn.__main__ import _name_user
_name_user()
import getpass, pathlib
print(getpass.getuser() == str(os.getuid()), pathlib.Path.home())
"""


def run(
    *words: str, without: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    kept = {key: value for key, value in os.environ.items() if key not in without.split()}
    variables = {**kept, **(environment or {})}
    return subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, check=False)


def test_a_character_that_cannot_be_shown_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    monkeypatch.setattr(sys, "stderr", None)  # a process may have none
    show_any_text()
    sys.stdout.write("8×8: 1.5 ± 0.2 – näe\udcff")
    sys.stdout.flush()
    assert written.getvalue() == b"8x8: 1.5 +- 0.2 - n?e?"


def test_a_command_works_where_everything_is_ascii(tmp_path: Path) -> None:
    file = tmp_path / "é.yaml"
    preset = (ROOT / "experiments" / "digits_class.yaml").read_text("utf-8")
    file.write_text(f"# é\n{preset}", "utf-8")
    words = [*PROGRAM, "data", str(file), "--home", str(tmp_path / "häuschen")]
    done = run(*words, environment=PLAIN)
    assert done.returncode == 0, done.stderr
    assert b"images of 1x8x8" in done.stdout
    assert done.stdout.isascii()
    assert (tmp_path / "häuschen" / "cache").is_dir()


def test_a_user_without_an_account_has_a_name_and_a_home() -> None:
    done = run(sys.executable, "-c", NOBODY, without="HOME USER LOGNAME LNAME USERNAME")
    assert done.stdout == b"True /\n", done.stderr


def test_ctrl_c_before_a_command_begins_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "main", interrupted)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # it ignores signals at its end
    assert program.main() == 1
    assert capfd.readouterr().err == "mixunlearn: stopped; run the same command again\n"


def test_a_package_that_was_not_installed_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed.cli.app", None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert program.main() == 2
    said = capfd.readouterr().err
    assert "is not installed; install the extra `all` as well" in said


def test_the_program_is_in_the_wheel_or_beside_the_library(tmp_path: Path) -> None:
    library = tmp_path / "mixunlearn"
    # Where Dask is installed, there is such a folder beside the library.
    for folder in (tmp_path / "distributed" / "cli", library / "_program" / "distributed" / "cli"):
        folder.mkdir(parents=True)
    assert program.program_folder(library) is None
    beside = tmp_path / "distributed" / "cli" / "app.py"
    beside.touch()
    assert program.program_folder(library) == tmp_path
    (library / "_program" / "distributed" / "cli" / "app.py").touch()
    assert program.program_folder(library) == library / "_program"
