"""`compare`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from distributed.cli.last_lines import at_home, print_last
from distributed.cli.options import (
    DONE,
    TRIALS_FAILED,
    Address,
    Home,
    Json,
    Outcome,
    Verbose,
    home_folder,
    open_session,
    run_command,
    showing,
)
from distributed.cli.show import console, duplicates, images_of_work, in_words
from mixunlearn.redaction import redact

if TYPE_CHECKING:
    from distributed.compare.cells import Cell, Plans
    from distributed.config.comparison import Comparison

Keys: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key, e.g. experiment.search.trials=8."
    ),
]
Only: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="AXIS=NAME,…", help="Cells to run, e.g. method=finetune,task=class."),
]


def compare(
    comparison: Annotated[
        Path,
        typer.Argument(metavar="COMPARISON", help="YAML file, or a preset such as small/digits."),
    ],
    only: Only = None,
    settings: Keys = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print which cells would run; run nothing.")
    ] = False,
    home: Home = None,
    address: Address = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Search every method with the same budget on the same problems; print the tables.

    Run the same command again to resume a stopped comparison. Exit code 4: a study failed to run.
    """

    def command() -> Outcome:
        with showing("checking all cells"):
            from distributed.cluster.connection import local, require_answer
            from distributed.compare.cells import Plans, cells, chosen
            from distributed.compare.run import missing, run_comparison
            from distributed.config.comparison import read_comparison

            wanted = read_comparison(comparison, settings or [])
            found = cells(wanted)
            some = chosen(found, only)
            again = f"mixunlearn compare {shlex.quote(str(comparison))}"
            plans = Plans(home_folder(home), command=again, local=local(address), planning=dry_run)
            for cell in [cell for cell in some if cell.experiment]:
                plans.of(cell)  # raises on any error in the cell, before the first study runs
        if dry_run:
            return _dry_comparison(wanted, some, plans)
        if missing(some, plans):
            require_answer(address)
        with open_session(address) as session:
            for line in _shared_pixels(some, plans):
                session.progress.say(line)
            # The tables show all cells, also those that `--only` leaves out.
            failures = run_comparison(wanted, some, found, plans, session)
        outcome = _compared(wanted, found, plans, failures)
        left = any(cell.experiment and cell not in some for cell in found)
        keys, failed = settings or [], bool(failures)
        following = after_comparison(comparison, only, keys, plans.home, left=left, failed=failed)
        print_last({"report": outcome.result["page"], "next": following})
        return outcome

    run_command(command, as_json=as_json, verbose=verbose)


def after_comparison(
    file: Path, only: str | None, settings: Sequence[str], home: Path, *, left: bool, failed: bool
) -> str:
    """Return the command that goes on after a comparison.

    It tries again what failed, or else runs the cells that `--only` left out, or else measures all
    winners further.
    """
    words = ["mixunlearn", "compare" if failed or left else "evidence", str(file)]
    words += ["--only", only] if only is not None and failed else []
    words += [word for each in settings for word in ("--set", each)]
    return redact(f"{shlex.join(words)}{at_home(home)}")


def _dry_comparison(comparison: "Comparison", cells: Sequence["Cell"], plans: "Plans") -> Outcome:
    """Print which cells of a comparison are done and which would run, and how much work that is."""
    from distributed.compare.run import done, missing

    states = {
        cell.title: (cell.incompatible and f"n/a: {cell.incompatible}")
        or ("done" if done(plans.of(cell)) else "to run")
        for cell in cells
    }
    for title, state in states.items():
        console().print(f"{title}: {state}", soft_wrap=True, markup=False)
    work = images_of_work(*(plans.of(cell) for cell in missing(cells, plans)))
    for line in (*_shared_pixels(cells, plans), in_words(work)):
        console().print(line, soft_wrap=True, markup=False)
    found = {"name": comparison.name, "cells": states, "images_of_work": work}
    return Outcome(result=found)


def _shared_pixels(cells: Sequence["Cell"], plans: "Plans") -> list[str]:
    """Return which parts have images with the same pixels, once for each split of the images."""
    splits = {plans.of(cell).splits.key: cell for cell in cells if cell.experiment}
    return [
        f"warning     {cell.data}, {cell.task}: {line}"
        for cell in splits.values()
        for line in duplicates(plans.of(cell))
    ]


def _compared(
    comparison: "Comparison",
    cells: Sequence["Cell"],
    plans: "Plans",
    failures: dict[str, str],
) -> Outcome:
    """Print the tables of a comparison."""
    from distributed.compare.run import COMPARISON_PAGE, distances, folder_of, groups, results
    from report.comparison import tables
    from report.comparison_page import drawn

    made = tables(results(cells, plans, failures))
    for table in made:
        console().print(drawn(table))
    page = folder_of(comparison, plans.home) / COMPARISON_PAGE
    result = {
        "name": comparison.name,
        "page": str(page),
        "distances": distances(made),
        "groups": groups(made),
        "failures": failures,
    }
    return Outcome(result=result, code=TRIALS_FAILED if failures else DONE)
