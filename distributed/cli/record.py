"""`record`: deletion records."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributed.cli.options import (
    DONE,
    FAILED,
    Home,
    Json,
    Outcome,
    Verbose,
    home_folder,
    run_command,
)
from distributed.cli.show import console
from mixunlearn.errors import InputError
from mixunlearn.wording import counted

if TYPE_CHECKING:
    from distributed.requests.record import Chain

ACTIONS = ("verify", "list")
DIGEST = re.compile("[0-9a-f]{64}")


def record(
    action: Annotated[str, typer.Argument(metavar="verify|list", help="What to do.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Copies of records, to verify as well."),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="The digest of a record that you kept elsewhere."),
    ] = None,
    home: Home = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Verify the deletion records of a home, or list them.

    Exit code 0: every record is as it was written, in its place. Exit code 1: the lines say which
    record is not. Only a digest that was kept elsewhere shows that the last records were cut off,
    or that all were written anew.
    """

    def command() -> Outcome:
        from distributed.requests.copies import check_copy, sound
        from distributed.requests.record import verify

        _require(action, files or [], head)
        where = home_folder(home)
        chain = verify(where, head)
        if not chain.records and not chain.problems:
            remedy = "has no deletion records; name the home in which the requests ran"
            raise InputError("--home", str(where), remedy)
        if action == "list":
            return _listed(chain)
        copies = [line for path in files or [] for line in check_copy(path, chain)]
        problems = [*chain.problems, *copies]
        return _verified(chain, problems, head, [] if problems else list(map(sound, files or [])))

    run_command(command, as_json=as_json, verbose=verbose)


def _require(action: str, files: Sequence[Path], head: str | None) -> None:
    """Check the words of the command.

    Raises:
        InputError: one of them has no meaning.
    """
    if action not in ACTIONS:
        raise InputError("record", action, f"must be {' or '.join(ACTIONS)}")
    if action == "list" and (files or head):
        raise InputError("record", "list", "takes neither FILE nor --head; use record verify")
    if head is not None and not DIGEST.fullmatch(head):
        remedy = "must be the 64 digits (0-9, a-f) that record verify has printed"
        raise InputError("--head", head, remedy)


def _verified(
    chain: "Chain", problems: Sequence[str], head: str | None, copies: Sequence[str]
) -> Outcome:
    for line in [*problems, *copies]:
        console().print(line, soft_wrap=True, markup=False)
    if problems:
        console().print(f"the chain does not hold: {counted(len(problems), 'problem')}")
    else:
        known = f"; {counted(_since(chain, head), 'record')} added since {head}" if head else ""
        line = f"{counted(len(chain.records), 'record')}, the chain holds{known}"
        console().print(line, soft_wrap=True)
        console().print(f"head {chain.head}", soft_wrap=True)
    result = {"records": len(chain.records), "head": chain.head, "problems": list(problems)}
    return Outcome(result=result, code=FAILED if problems else DONE)


def _since(chain: "Chain", head: str) -> int:
    """Return how many records follow the one with a digest that the chain has."""
    return len(chain.records) - 1 - [each.digest for each in chain.records].index(head)


def _listed(chain: "Chain") -> Outcome:
    rows = chain.rows()
    for row in rows:
        line = "  ".join(str(value) for value in row.values())
        console().print(line, soft_wrap=True, markup=False)
    for problem in chain.problems:
        console().print(problem, soft_wrap=True, markup=False)
    return Outcome(
        result={"records": rows, "problems": list(chain.problems)},
        code=FAILED if chain.problems else DONE,
    )
