"""`list` and `init`: what a home has, and what presets there are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from distributed.cli.options import (
    DONE,
    FAILED,
    Home,
    Json,
    Outcome,
    Places,
    Verbose,
    complain,
    home_folder,
    run_command,
)
from distributed.cli.show import console
from mixunlearn.errors import InputError, MixUnlearnError
from mixunlearn.plain import plain


def list_home(
    settings: Places = None,
    home: Home = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List what a home has: studies with their verdicts, champions, deletion records.

    gap/avg is the distance to retraining in percentage points, on test. Nothing is written. Exit
    code 1: the chain of the deletion records does not hold.
    """

    def command() -> Outcome:
        from distributed.requests.record import verify
        from distributed.study.overview import overview

        where = home_folder(home)
        if not where.is_dir():
            remedy = "no such folder; name the home in which studies ran, or run a sweep first"
            raise InputError("--home", str(where), remedy)
        chain = verify(where)
        found = {
            "studies": list(overview(where)),
            "champions": _champions(where, settings or [], verbose=verbose),
            "records": chain.rows(),
        }
        for title, rows in found.items():
            _show(title, rows)
        for problem in chain.problems:
            console().print(problem, soft_wrap=True, markup=False)
        return Outcome(
            result=plain({**found, "problems": list(chain.problems)}),
            code=FAILED if chain.problems else DONE,
        )

    run_command(command, as_json=as_json, verbose=verbose)


def _champions(home: Path, settings: Sequence[str], *, verbose: bool) -> list[dict[str, Any]]:
    """Return the champions; a server that does not answer costs only this part of the list."""
    from distributed.config.checks import check_tracking_variable
    from distributed.config.read import read_tracking
    from distributed.runtime.addresses import resolve
    from distributed.tracking.champions import champions

    # Only if need be: to read settings is to check a whole experiment, which imports torch.
    chosen = read_tracking(settings).uri if settings else None
    check_tracking_variable(chosen)
    uri, _ = resolve(chosen, None, home)
    try:
        return champions(uri)
    except MixUnlearnError as error:
        complain(str(error), verbose=verbose)
        return []


def init(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A preset, e.g. mnist_class [list all of them]."),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Copy a preset into the current folder, to be changed there; without NAME, list all presets.

    No file is overwritten.
    """

    def command() -> Outcome:
        from distributed.config.presets import FOLDERS, about, copy_preset, presets

        if name is not None:
            made = [str(path) for path in copy_preset(name, Path())]
            for path in made:
                console().print(path, soft_wrap=True, markup=False)
            return Outcome(result={"files": made})
        folders = dict.fromkeys(each for some in FOLDERS.values() for each in some)
        rows = [{"name": each, "about": about(path)} for each, path in presets(*folders).items()]
        _show("presets", rows)
        return Outcome(result={"presets": rows})

    run_command(command, as_json=as_json, verbose=verbose)


def _show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a table; where nobody watches, as lines with tabs between the values."""
    out = console()
    if not rows:
        out.print(f"{title}: none")
        return
    if not out.is_terminal:
        print(title, "\t".join(rows[0]), sep="\n")
        for row in rows:
            print("\t".join(map(_text, row.values())))
        return
    table = Table(*rows[0], title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(escape(_text(value)) for value in row.values()))
    out.print(table)


def _text(value: object) -> str:
    """Return a value as the text of a cell."""
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
