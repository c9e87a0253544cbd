"""The program: all commands in one table, in the order in which `--help` lists them."""

from collections.abc import Callable, Mapping
from inspect import cleandoc
from typing import Annotated

import typer

from distributed.cli.compare import compare
from distributed.cli.evidence import evidence
from distributed.cli.home import init, list_home
from distributed.cli.machine import data, doctor, submit, ui
from distributed.cli.nightly import nightly
from distributed.cli.options import DONE, FAILED
from distributed.cli.purge import purge
from distributed.cli.record import record
from distributed.cli.search import references, sweep
from distributed.cli.studies import rerun, sync, write_export, write_report
from distributed.cli.unlearn import unlearn
from distributed.runtime.terminal import show_any_text

COMMANDS: Mapping[str, Callable[..., None]] = {
    "init": init,
    "unlearn": unlearn,
    "sweep": sweep,
    "references": references,
    "compare": compare,
    "evidence": evidence,
    "nightly": nightly,
    "sync": sync,
    "rerun": rerun,
    "report": write_report,
    "export": write_export,
    "list": list_home,
    "record": record,
    "purge": purge,
    "data": data,
    "doctor": doctor,
    "ui": ui,
    "submit": submit,
}

app = typer.Typer(
    help="Tune machine unlearning and measure how close the result is to retraining.",
    no_args_is_help=True,
    # Brackets in a help text are brackets: Rich would drop them as unknown styles.
    rich_markup_mode=None,
    # `run_command` prints errors, in one line and without passwords.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for name, command in COMMANDS.items():
    # The first sentence, as a whole: else the list of commands would cut it off.
    about, _, _ = " ".join(cleandoc(command.__doc__ or "").split("\n\n")[0].split()).partition(". ")
    app.command(name, short_help=about)(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from mixunlearn.release import __version__

        print(f"mixunlearn {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


def main() -> int:
    """Run the command line and return its exit code."""
    show_any_text()
    try:
        app(prog_name="mixunlearn")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED
    return DONE
