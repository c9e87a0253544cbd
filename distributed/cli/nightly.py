"""`nightly`."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from distributed.cli.last_lines import print_last
from distributed.cli.options import (
    DONE,
    FAILED,
    REGRESSED,
    TRIALS_FAILED,
    Address,
    Home,
    Json,
    Outcome,
    Verbose,
    home_folder,
    open_session,
    run_command,
)
from distributed.cli.show import console
from mixunlearn.errors import InputError, MissingError

if TYPE_CHECKING:
    from distributed.nightly.nights import Nights
    from distributed.nightly.records import NightRecord

Keys: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. budget.trials=4."),
]


def nightly(
    plan: Annotated[
        Path, typer.Argument(metavar="PLAN", help="YAML file, or a preset such as nightly/mnist.")
    ],
    date: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM-DD", help="Which night [today, in the plan's time zone]."),
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Print the verdicts of all nights; run nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Run a finished night again, with other seeds.")
    ] = False,
    settings: Keys = None,
    home: Home = None,
    address: Address = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure the champion, continue the search, run the duel with the best candidate.

    Prints the verdict. A night runs once for each date: the same command resumes an interrupted
    night, or prints a finished one. Exit codes: 3 regressed, 1 failed, 4 trials failed.
    """

    def command() -> Outcome:
        from distributed.cluster.connection import local
        from distributed.config.nightly import read_nightly
        from distributed.nightly.nights import Nights
        from distributed.nightly.run import run_nights

        wanted, experiments = read_nightly(plan, settings or [])
        place = home_folder(home)
        # In the plan's time zone: two machines must mean the same night.
        night = _date(date) or wanted.today(datetime.now(tz=UTC))
        if history:
            return _history(Nights(place, wanted.name))
        here = local(address)  # raises if it is no address, before anything is written
        with open_session(address) as session:
            record = run_nights(
                wanted,
                experiments,
                night,
                session,
                place,
                command=f"mixunlearn nightly {plan}",
                local=here,
                force=force,
            )
        return _of_night(record, Nights(place, wanted.name))

    run_command(command, as_json=as_json, verbose=verbose)


def _date(text: str | None) -> date | None:
    """Return the date that the user wrote."""
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise InputError("--date", text, "no such date; write it as 2026-11-30") from error


def _history(nights: "Nights") -> Outcome:
    """Print all nights of a plan."""
    from report.nightly.history import trend

    found = [record for night in nights.dates() if (record := nights.read(night))]
    records = [record.as_json() for record in found]
    if not records:
        raise MissingError(f"no night in {nights.folder}: `mixunlearn nightly PLAN` runs one")
    console().print(trend(records))
    return Outcome(result={"nights": [_brief(record) for record in records]})


def _of_night(record: "NightRecord", nights: "Nights") -> Outcome:
    """Print a night's verdict and the path of its page; return the result and the exit code."""
    from report.nightly.headline import headline
    from report.nightly.history import trend
    from report.nightly.page import NIGHT_PAGE

    plain = record.as_json()
    console().print(trend([plain]))
    page = nights.of(record.date) / NIGHT_PAGE
    print_last({"verdict": headline(plain), "report": str(page)})
    failed = any(part.trials and part.trials.failed for part in record.experiments)
    # A regression is what a scheduler must see, even if an error or failed trials came with it.
    if record.verdict == "regressed":
        code = REGRESSED
    else:
        code = FAILED if record.error else TRIALS_FAILED if failed else DONE
    return Outcome(result=plain, code=code)


def _brief(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("date", "state", "verdict", "error", "seconds")}
