"""Commands on this machine or a cluster: `data`, `doctor`, `ui`, `submit`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from distributed.cli.options import (
    DONE,
    FAILED,
    Address,
    Home,
    Json,
    Outcome,
    RetryFailed,
    Settings,
    Ship,
    Trials,
    Unused,
    Verbose,
    home_folder,
    run_command,
)
from distributed.cli.show import console, data_title


def data(
    source: Annotated[
        str, typer.Argument(metavar="EXPERIMENT|SOURCE", help="A YAML file or a source's name.")
    ],
    rows: Annotated[
        Path | None,
        typer.Option("--rows", metavar="FILE", help="Write which row is which file, as CSV."),
    ] = None,
    settings: Settings = None,
    home: Home = None,
    address: Unused = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Import a data source into the cache and show what is in it."""

    def command() -> Outcome:
        from distributed.plan.inspection import inspect_data

        result = inspect_data(source, settings or [], home_folder(home), rows)
        parts = result["parts"]
        table = Table("class", *parts, title=data_title(result))
        table.add_row("all", *(str(sum(counts)) for counts in parts.values()), end_section=True)
        for name, *counts in zip(result["classes"], *parts.values(), strict=True):
            table.add_row(escape(name), *map(str, counts))
        console().print(table)
        for line in result["skipped"]:
            console().print(f"skipped: {line}", soft_wrap=True, markup=False)
        if rows:
            console().print(f"rows: {rows}", soft_wrap=True, markup=False)
        console().print(f"cache: {result['cache']}", soft_wrap=True, markup=False)
        return Outcome(result=result)

    run_command(command, as_json=as_json, verbose=verbose)


def doctor(
    settings: Settings = None,
    home: Home = None,
    address: Address = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Check Python, packages, processors, Ray, disk, store and tracking."""

    def command() -> Outcome:
        from dataclasses import asdict

        from distributed.config.read import read_storage, read_tracking
        from distributed.doctor import checks
        from distributed.runtime.addresses import resolve

        tracking, storage = read_tracking(settings or []), read_storage(settings or [])
        uri, _ = resolve(tracking.uri, tracking.storage, home_folder(home))
        # As Ray itself does: the cluster checked is the one that a sweep would join.
        ray_address = address or os.environ.get("RAY_ADDRESS")
        found = checks(home_folder(home), uri, ray_address, storage.study, storage.files)
        for check in found:
            mark = "[green]ok[/]  " if check.ok else "[red]fail[/]"
            remedy = "" if check.ok or not check.remedy else f" → {check.remedy}"
            console().print(f"{mark} {check.name}: {check.detail}{remedy}", soft_wrap=True)
        healthy = all(check.ok for check in found)
        return Outcome(result=[asdict(check) for check in found], code=DONE if healthy else FAILED)

    run_command(command, as_json=as_json, verbose=verbose)


def ui(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port on 127.0.0.1 [a free one].")
    ] = None,
    dashboard: Annotated[
        str | None,
        typer.Option("--dashboard", metavar="STUDY", help="Serve Optuna's dashboard of a study."),
    ] = None,
    settings: Settings = None,
    home: Home = None,
    address: Unused = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Serve the MLflow UI of the home, or a study's dashboard, on 127.0.0.1 until Ctrl-C."""

    def command() -> Outcome:
        from distributed.config.read import read_tracking
        from distributed.runtime.addresses import resolve
        from distributed.runtime.text import redact
        from distributed.serve.pages import serve, serve_dashboard

        def announce(line: str) -> None:
            console().print(line, soft_wrap=True)

        if dashboard is not None:
            from distributed.plan.make import record_of

            uri = record_of(dashboard, settings or [], home_folder(home))
            code = serve_dashboard(dashboard, uri, port, announce)
        else:
            tracking = read_tracking(settings or [])
            uri, artifacts = resolve(tracking.uri, tracking.storage, home_folder(home))
            code = serve(home_folder(home), uri, artifacts, port, announce)
        return Outcome(result={"uri": redact(uri)}, code=code)

    run_command(command, as_json=as_json, verbose=verbose)


def submit(
    experiment: Annotated[
        Path | None, typer.Argument(metavar="[EXPERIMENT]", help="YAML file in the checkout.")
    ] = None,
    trials: Trials = None,
    settings: Settings = None,
    retry_failed: RetryFailed = False,
    follow: Annotated[bool, typer.Option(help="Show the job's log until it ends.")] = True,
    status: Annotated[
        str | None, typer.Option("--status", metavar="JOB", help="Print the state of a job.")
    ] = None,
    stop: Annotated[
        str | None,
        typer.Option("--stop", metavar="JOB", help="Stop a job; submit again to resume it."),
    ] = None,
    ship: Ship = None,
    home: Annotated[
        # Not a Path: `~` is the home of the cluster's user, not ours.
        str | None, typer.Option(help="Folder on the cluster's head ['~/mixunlearn-runs'].")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="The cluster's dashboard [http://127.0.0.1:8265].")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Submit a sweep to a Ray cluster as a job and follow it; print a job's state, or stop it.

    Ctrl-C stops following; the job goes on. The exit code is the sweep's.
    """

    def command() -> Outcome:
        from distributed.cluster.submit import run

        total = [] if trials is None else [f"search.trials={trials}"]
        flags = {"--retry-failed": retry_failed, "-v": verbose}
        state = run(
            experiment=experiment,
            status=status,
            stop=stop,
            settings=[*(settings or []), *total],
            options=[flag for flag, given in flags.items() if given],
            home=home,
            address=address,
            ship=ship or [],
            follow=follow,
            # Standard output is for the result.
            show=lambda text: print(text, end="", file=sys.stderr, flush=True),
        )
        console().print(state.line, soft_wrap=True)
        # Only a job that was waited for has an exit code of its own.
        waited = follow and experiment is not None
        return Outcome(result=state.as_json(), code=state.code if waited else DONE)

    run_command(command, as_json=as_json, verbose=verbose)
