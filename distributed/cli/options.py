"""What all commands share: options, exit codes, and how a command ends."""

import json
import logging
import os
import shlex
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from distributed.cli.completion import preset_names
from distributed.runtime.signals import ignored, terminated_as_interrupted
from distributed.runtime.text import Logs, OneLine, cut, redact, shortened, warnings_in_one_line
from mixunlearn.errors import InputError, MixUnlearnError

if TYPE_CHECKING:
    from distributed.search.session import Session


DONE, FAILED, BAD_INPUT, REGRESSED, TRIALS_FAILED = 0, 1, 2, 3, 4
LONGEST_REASON, LONGEST_LINE = 500, 2000

ExperimentFile: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="EXPERIMENT",
        help="YAML file, or a preset's name; `init` lists them.",
        autocompletion=preset_names,
    ),
]
Settings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. search.epochs=4."),
]
Places: TypeAlias = Annotated[  # of a study that exists: other keys would make it another study
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Say where things are, e.g. tracking.uri=http://HOST:5000.",
    ),
]
Home: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Where results are kept [MIXUNLEARN_HOME, else ./runs]."),
]
Address: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="A Ray cluster [RAY_ADDRESS, else this machine]."),
]
Unused: TypeAlias = Annotated[
    str | None, typer.Option("--address", hidden=True, help="Accepted, but not used here.")
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON in the last line of the output.")
]
Verbose: TypeAlias = Annotated[bool, typer.Option("-v", "--verbose", help="Show tracebacks.")]
Trials: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", help="Total number of the study's trials.")
]
RetryFailed: TypeAlias = Annotated[
    bool, typer.Option("--retry-failed", help="Run the failed trials again.")
]
Ship: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--ship", metavar="PATH", help="Also ship a file or folder that git does not track."
    ),
]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and the whole experiment; run nothing.")
]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended.

    Args:
        result: plain data for `--json`.
        code: the exit code.
    """

    result: Any
    code: int = DONE


def run_command(command: Callable[[], Outcome], *, as_json: bool, verbose: bool) -> None:
    """Run a command; turn each error into one line and an exit code."""
    logs = Logs()
    logs.setFormatter(OneLine("%(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[logs])
    try:
        # A scheduler sends SIGTERM; what was begun has to be cleaned up as after Ctrl-C.
        with terminated_as_interrupted(), warnings_in_one_line():
            outcome = command()
    except MixUnlearnError as error:
        complain(str(error), verbose=verbose)
        for other in error.others if isinstance(error, InputError) else ():
            complain(str(other), verbose=False)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        with ignored():  # a second signal would print a traceback over the message
            # Quoted, so that it can be pasted into a shell.
            again = shlex.join(["mixunlearn", *sys.argv[1:]])
            reason = f"stopped{f' by {error}' if str(error) else ''}; resume with: {again}"
            complain(reason, verbose=verbose)
        raise typer.Exit(FAILED) from error
    except MemoryError as error:
        remedy = "take fewer or smaller images (data.limit, data.size), or a machine with more"
        complain(f"out of memory ({error}): {remedy}", verbose=verbose)
        raise typer.Exit(FAILED) from error
    except Exception as error:
        reason = cut(f"{type(error).__name__}: {error}", LONGEST_REASON)
        complain(f"{reason}; -v shows where", verbose=verbose)
        raise typer.Exit(FAILED) from error
    # Only now: the JSON is the last line, after everything that the command printed.
    if as_json:
        print(json.dumps(outcome.result, allow_nan=False))  # NaN is not valid JSON
    raise typer.Exit(outcome.code)


@contextmanager
def open_session(address: str | None) -> Iterator["Session"]:
    """Open the session of a command that changes a study: Ray, progress, stop requests."""
    from distributed.runtime.progress import Progress
    from distributed.runtime.signals import Stop

    # In this order: a stop is announced through the progress, while the session still closes.
    with Progress() as progress, Stop(progress.say) as stop:
        progress.show("loading the program")
        from distributed.search.session import Session  # Ray, Optuna and MLflow: seconds

        with Session(address=address, progress=progress, stop=stop) as session:
            yield session


@contextmanager
def showing(what: str) -> Iterator[None]:
    """Show what a command is doing while it has no session, if that takes a while."""
    from distributed.runtime.progress import Progress

    with Progress() as progress:
        progress.show(what)
        yield


def complain(reason: str, *, verbose: bool) -> None:
    """Print what went wrong in one line; with `verbose`, print the traceback first."""
    if verbose:
        print(redact(traceback.format_exc()), end="", file=sys.stderr)
    # Shortened first: a value can be as long as a file, and `redact` reads all of it many times.
    line = redact(shortened(" ".join(reason.split()), LONGEST_LINE))
    print(f"mixunlearn: {line}", file=sys.stderr)


def home_folder(home: Path | None) -> Path:
    """Return the home: the one given, else MIXUNLEARN_HOME, else ./runs.

    From then on, all files and folders that are made can be read by their owner alone, or by a
    group to which the home was given (`chmod g+rwxs`).

    Raises:
        InputError: it names a user who does not exist, or links lead in a circle.
    """
    chosen = home or Path(os.environ.get("MIXUNLEARN_HOME") or "runs")
    try:
        folder = chosen.expanduser()
    except RuntimeError as error:
        raise InputError("--home", str(chosen), "no such user; choose another folder") from error
    try:
        folder.resolve()
    except RuntimeError as error:
        remedy = "its links lead in a circle; choose another folder"
        raise InputError("--home", str(chosen), remedy) from error
    # Here alone, and not file by file: also what SQLite, MLflow and Ray write holds records.
    os.umask(0o007 if _for_a_group(folder) else 0o077)
    return folder


def _for_a_group(folder: Path) -> bool:
    wanted = stat.S_ISGID | stat.S_IRWXG
    return os.path.isdir(folder) and folder.stat().st_mode & wanted == wanted  # noqa: PTH112
