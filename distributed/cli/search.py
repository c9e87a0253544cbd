"""`sweep` and `references`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distributed.cli.last_lines import print_last, print_result
from distributed.cli.options import (
    DONE,
    FAILED,
    TRIALS_FAILED,
    Address,
    DryRun,
    ExperimentFile,
    Home,
    Json,
    Outcome,
    RetryFailed,
    Settings,
    Trials,
    Verbose,
    complain,
    home_folder,
    open_session,
    run_command,
    showing,
)
from distributed.cli.show import (
    announcement,
    others,
    print_plan,
    print_references,
    print_tables,
)
from distributed.runtime.text import redact
from mixunlearn.errors import MixUnlearnError

if TYPE_CHECKING:
    from distributed.plan.plan import Plan


def sweep(
    experiment: ExperimentFile,
    trials: Trials = None,
    settings: Settings = None,
    retry_failed: RetryFailed = False,
    promote: Annotated[
        bool, typer.Option("--promote", help="Make the best model `champion`, unless it is worse.")
    ] = False,
    dry_run: DryRun = False,
    home: Home = None,
    address: Address = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Search for the configuration that is closest to retraining; print the verdict.

    The same command again does only what is missing: it resumes interrupted trials and adds those
    that --trials asks for. Ctrl-C checkpoints running trials and stops; a second Ctrl-C stops at
    once. Exit code 4: trials failed. With --promote, exit code 1: the champion was not replaced.
    """

    def command() -> Outcome:
        total = [] if trials is None else [f"search.trials={trials}"]
        changes = [*(settings or []), *total]
        if not (dry_run or promote or retry_failed) and (
            known := _known(experiment, changes, home)
        ):
            return known
        plan = _plan(experiment, changes, home, address, planning=dry_run)
        if dry_run:
            return print_plan(plan)
        summary = _run(plan, address, retry_failed=retry_failed)
        # Before the promotion, which may fail: the result must not be lost with it.
        print_tables(summary)
        code = _code(summary)
        promoted = _promote(plan, summary, verbose=verbose) if promote else None
        print_result(plan.study_folder, plan.home, summary)
        if promoted and not promoted["done"]:
            code = FAILED
        return Outcome(result={**summary, "promoted": promoted}, code=code)

    run_command(command, as_json=as_json, verbose=verbose)


def references(
    experiment: ExperimentFile,
    settings: Settings = None,
    dry_run: DryRun = False,
    home: Home = None,
    address: Address = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train the original and the references of an experiment, unless the store has them."""

    def command() -> Outcome:
        plan = _plan(experiment, settings or [], home, address, planning=dry_run)
        if dry_run:
            return print_plan(plan)
        from distributed.search.sweep import run_references

        with open_session(address) as session:
            for line in announcement(plan)[:-1]:  # the last line is about trials
                session.progress.say(line)
            trained = run_references(plan, session)
        return print_references(plan, trained)

    run_command(command, as_json=as_json, verbose=verbose)


def _known(file: Path, settings: list[str], home: Path | None) -> Outcome | None:
    """Print the result of a study of which nothing is left to do, without opening it."""
    from distributed.config.read import glance
    from distributed.study.finished import finished_study

    experiment, root = glance(file, settings), home_folder(home)
    found = finished_study(experiment, root) if experiment else None
    if found is None:
        return None
    folder, summary = found
    print(f"study       {folder.path.name} in {folder.path}: nothing to do", file=sys.stderr)
    print_tables(summary)
    print_result(folder, root, summary)
    return Outcome(result={**summary, "promoted": None}, code=_code(summary))


def _code(summary: dict[str, Any]) -> int:
    return TRIALS_FAILED if summary["trials"]["failed"] else DONE


def _run(plan: "Plan", address: str | None, *, retry_failed: bool) -> dict[str, Any]:
    """Do what is missing in a study; return its summary."""
    from distributed.plan.proxies import announcement as of_proxies
    from distributed.search.sweep import run_sweep

    with open_session(address) as session:
        for line in (*announcement(plan), *of_proxies(plan), *others(plan)):
            session.progress.say(line)
        return run_sweep(plan, session, retry_failed=retry_failed)


def _plan(
    file: Path, settings: list[str], home: Path | None, address: str | None, *, planning: bool
) -> "Plan":
    """Return the checked plan of an experiment file; see `make_plan`."""
    command = f"mixunlearn references {file}"
    with showing("checking the experiment and its images"):
        from distributed.cluster.connection import local, require_answer
        from distributed.config.read import read_experiment
        from distributed.plan.make import make_plan

        experiment = read_experiment(file, settings)
        plan = make_plan(
            experiment, home_folder(home), command=command, local=local(address), planning=planning
        )
        if plan.references.missing():
            require_answer(address)
    return plan


def _promote(plan: "Plan", summary: dict[str, Any], *, verbose: bool) -> dict[str, Any]:
    """Promote the best trial's model; print the outcome and return it as plain data."""
    from distributed.search.best import promote_best

    try:
        reason = promote_best(plan, summary)
    except MixUnlearnError as error:  # the sweep itself succeeded: its result is printed
        complain(str(error), verbose=verbose)
        return {"done": False, "reason": redact(str(error))}
    print_last({"champion": reason})
    return {"done": True, "reason": reason}
