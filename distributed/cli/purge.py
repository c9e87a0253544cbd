"""`purge`."""

from collections import Counter
from typing import Annotated

import typer

from distributed.cli.completion import study_names
from distributed.cli.options import Home, Json, Outcome, Places, Verbose, home_folder, run_command
from distributed.cli.show import console

NOTES = (
    "kept        references, unlearned models, reports, tables, records",
    "originals   are removed because they still know the images: other studies of the same data "
    "train theirs again",
    "not touched MLflow, your own files of images and lists, copies elsewhere",
)


def purge(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STUDY",
            help="Names, or how they begin [all studies].",
            autocompletion=study_names,
        ),
    ] = None,
    settings: Places = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be removed; remove nothing.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Remove what holds images to be forgotten, their ids, or memory of them, from a home.

    Removed: decoded images, lists of images, originals, outputs for single images, checkpoints.
    Afterwards these studies cannot go on. The same command again finishes what was cut off.
    """

    def command() -> Outcome:
        from distributed.requests.purge import purge as remove

        removed = remove(studies or [], settings or [], home_folder(home), dry_run=dry_run)
        places = list(dict.fromkeys((each.what, str(each.place)) for each in removed))
        if dry_run:
            for what, place in places:
                console().print(f"{what}: {place}", soft_wrap=True, markup=False)
        counts = Counter(what for what, _ in places)
        listed = ", ".join(f"{what} ({count})" for what, count in counts.items()) or "nothing"
        verb = "to remove  " if dry_run else "removed    "
        console().print(f"{verb} {listed}", soft_wrap=True, markup=False)
        for line in NOTES:
            console().print(line, soft_wrap=True, markup=False)
        return Outcome(result={"removed": dict(counts), "places": [place for _, place in places]})

    run_command(command, as_json=as_json, verbose=verbose)
