"""What every command does with warnings, lack of memory, long values and help texts."""

import logging
import re
import sys
import warnings

import pytest
import typer

from distributed.cli import app
from distributed.cli.options import Outcome, run_command
from distributed.runtime.text import OneLine, shortened


def ended(command: object, *, verbose: bool = False) -> int:
    with pytest.raises(typer.Exit) as caught:
        run_command(command, as_json=False, verbose=verbose)  # type: ignore[arg-type]
    return caught.value.exit_code


def test_a_warning_is_one_line() -> None:
    said: list[str] = []

    def command() -> Outcome:
        said.append(warnings.formatwarning("first\n  second", UserWarning, "file.py", 3))
        return Outcome(result=None)

    usual = warnings.formatwarning
    assert ended(command) == 0
    assert said == ["warning: first second\n"]
    assert warnings.formatwarning is usual


def test_a_log_message_is_one_line() -> None:
    record = logging.LogRecord("x", logging.WARNING, "f.py", 3, "a\n %s", ("b\nc",), None)
    assert OneLine("%(message)s").format(record) == "a b c"


def test_lack_of_memory_says_what_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    def command() -> Outcome:
        raise MemoryError("Unable to allocate 3.00 GiB")

    assert ended(command) == 1
    assert capfd.readouterr().err == (
        "mixunlearn: out of memory (Unable to allocate 3.00 GiB): take fewer or smaller images "
        "(data.limit, data.size), or a machine with more\n"
    )


def test_a_long_line_keeps_its_ends_and_no_part_of_an_address() -> None:
    assert shortened("a b", 3) == "a b"
    text = shortened("key = " + "x" * 500 + " remedy", 100)
    assert text == "key = " + "x" * 44 + "… …remedy"
    assert shortened("see http://user:pass" + "word@host/" * 50 + " end", 30) == "see… …end"


@pytest.mark.parametrize("command", ["ui", "report", "export", "submit", "sweep"])
def test_help_texts_keep_their_brackets(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mixunlearn", command, "--help"])
    assert app.main() == 0
    said = " ".join(capsys.readouterr().out.split())
    defaults = {
        "ui": "[a free one]",
        "report": "[report.html in the study's folder; for several, in HOME]",
        "export": "[standard output]",
        "submit": "[http://127.0.0.1:8265]",
        "sweep": "[MIXUNLEARN_HOME, else ./runs]",
    }
    assert defaults[command] in said


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("command", ["", *app.COMMANDS])
def test_help_texts_are_whole_in_any_terminal(
    command: str,
    columns: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "argv", ["mixunlearn", *command.split(), "--help"])
    assert app.main() == 0
    said = capsys.readouterr().out
    assert not re.search(r"<bool>|<str>$|\[\[|\w\.\.\.$", said, re.MULTILINE), said
    # A word alone may be longer, such as the names of formats of an option.
    wide = [line for line in said.splitlines() if len(line) > columns]
    assert not [line for line in wide if " " in line.strip().removeprefix("--")], wide
    about = (app.COMMANDS[command].__doc__ or "") if command else "Tune machine unlearning"
    assert " ".join(about.split())[:60] in " ".join(said.split())
