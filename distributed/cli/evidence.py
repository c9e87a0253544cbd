"""`evidence`."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distributed.cli.last_lines import print_last
from distributed.cli.options import (
    DONE,
    TRIALS_FAILED,
    Address,
    Home,
    Json,
    Outcome,
    Settings,
    Verbose,
    home_folder,
    open_session,
    run_command,
    showing,
)
from distributed.cli.show import console
from mixunlearn.errors import InputError, MissingError
from mixunlearn.redaction import redact

if TYPE_CHECKING:
    from distributed.evidence.contenders import Contender
    from distributed.evidence.protocol import Protocol
    from distributed.evidence.targets import Target
    from distributed.plan.plan import Plan
    from distributed.search.session import Session


def evidence(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE|STUDY", help="An experiment or comparison (YAML), or a finished study."
        ),
    ],
    profile: Annotated[
        str, typer.Option(metavar="quick|standard|full", help="How much evidence to collect.")
    ] = "quick",
    settings: Settings = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would be trained and measured; run nothing."),
    ] = False,
    home: Home = None,
    address: Address = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure tuned methods on forget sets, originals and references that no search has seen.

    What is not tuned yet is searched first. Then each winner unlearns other forget sets from other
    originals; the results are compared with other references and with doing nothing. The same
    command again does only what is missing. Exit code 4: a search failed, or a method diverged.
    """

    def command() -> Outcome:
        from distributed.evidence.profiles import PROFILES
        from mixunlearn.data.names import known_names

        if profile not in PROFILES:
            raise InputError("--profile", profile, f"unknown; {known_names(profile, PROFILES)}")
        again = _again(target, profile, settings or [], home)
        with showing("checking what there is to measure"):
            from distributed.cluster.connection import local, require_answer
            from distributed.evidence.protocol import announcement
            from distributed.evidence.targets import find_target

            where, here = home_folder(home), local(address)
            found = find_target(target, settings or [], where, command=again, local=here)
            beside = [plan for plans in found.problems.values() for plan in plans.values()]
            lines = {
                name: list(announcement(plans, PROFILES[profile], beside))
                for name, plans in found.problems.items()
            }
        if dry_run:
            return _planned(lines)
        require_answer(address)
        with open_session(address) as session:
            results, failures = _collected(found, profile, lines, session, again)
        return _shown(results, failures)

    run_command(command, as_json=as_json, verbose=verbose)


def _again(target: str, profile: str, settings: Sequence[str], home: Path | None) -> str:
    """Return the command that collects the same evidence; without passwords, for it is published.

    Without the settings, a file would make another study.
    """
    words = ["mixunlearn", "evidence", target, "--profile", profile]
    words += [word for setting in settings for word in ("--set", _unlisted(setting))]
    words += ["--home", str(home)] if home else []
    return redact(shlex.join(words))


def _unlisted(setting: str) -> str:
    """Return a setting without images that are to be forgotten: the user has the list."""
    key, _, value = setting.partition("=")
    if key.strip() == "task" and "ids" in value:
        return "task={kind: ids, ids: FILE}"
    return "task.ids=FILE" if key.strip() == "task.ids" else setting


def _planned(lines: Mapping[str, list[str]]) -> Outcome:
    """Print what would be trained and measured."""
    for name, about in lines.items():
        for line in (f"evidence    {name}", *about):
            console().print(line, soft_wrap=True, markup=False)
    return Outcome(result={"evidence": lines})


def _collected(
    found: "Target",
    profile: str,
    lines: Mapping[str, list[str]],
    session: "Session",
    command: str,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the leaderboard of each problem, and what failed with the reason."""
    from distributed.evidence.run import run_evidence

    failures = dict(found.tune(session))
    results = []
    for name, plans in found.problems.items():
        for line in (f"evidence    {name}", *lines[name]):
            session.progress.say(line)
        protocol = _protocol(name, plans, profile, command, failures)
        results.append(run_evidence(protocol, session))
    return results, failures


def _protocol(
    name: str, plans: "Mapping[str, Plan]", profile: str, command: str, failures: dict[str, str]
) -> "Protocol":
    """Return the protocol for one problem; who has no result is added to the failures."""
    from distributed.evidence.contenders import contender
    from distributed.evidence.forget_sets import forget_sets
    from distributed.evidence.profiles import PROFILES
    from distributed.evidence.protocol import Protocol

    contenders: list[Contender] = []
    for each, plan in plans.items():
        try:
            contenders.append(contender(each, plan))
        except MissingError as error:
            if len(plans) == 1:
                raise
            failures[each] = str(error)
    if not contenders:
        raise MissingError(f"{name}: no search has a result; {next(iter(failures.values()))}")
    numbers = PROFILES[profile]
    sets, left_out = forget_sets(contenders[0].plan, numbers.forget_sets)
    return Protocol(
        name=name,
        contenders=contenders,
        forget_sets=sets,
        left_out=left_out,
        profile=numbers,
        profile_name=profile,
        command=command,
    )


def _shown(results: list[dict[str, Any]], failures: dict[str, str]) -> Outcome:
    """Print the verdicts, and where the files are."""
    from distributed.evidence.run import PAGE
    from report.evidence import headline
    from report.evidence_table import terminal_table

    for each in results:
        console().print(terminal_table(each))
        print_last({"verdict": headline(each), "report": str(Path(each["folder"]) / PAGE)})
    absent = {
        method["method"]: method["absent"]
        for each in results
        for method in each["methods"]
        if method["absent"]
    }
    failed = {**failures, **absent}
    code = TRIALS_FAILED if failed else DONE
    return Outcome(result={"evidence": results, "failures": failed}, code=code)
