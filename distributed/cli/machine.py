"""Commands on this machine or a cluster: `data`, `doctor`, `ui`, `submit`."""

import os
import sys
import webbrowser
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.markup import escape
from rich.table import Table

from distributed.cli.completion import preset_names, study_names
from distributed.cli.options import (
    DONE,
    FAILED,
    Address,
    Home,
    Json,
    Outcome,
    Places,
    RetryFailed,
    Settings,
    Ship,
    Trials,
    Unused,
    Verbose,
    home_folder,
    run_command,
    showing,
)
from distributed.cli.show import console, data_title
from distributed.runtime.text import redact
from mixunlearn.errors import MixUnlearnError
from mixunlearn.wording import counted

if TYPE_CHECKING:
    from distributed.config.experiment import Experiment
    from distributed.doctor import Check


EXPOSED = (
    "warning: MLflow listens on {}: whoever can reach this machine there can read and change all "
    "runs and models, for there is no password (docs/security.md)"
)

Shown: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="STUDY",
        help="The study to open [the one that was last active].",
        autocompletion=study_names,
    ),
]
Port: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, max=65535, metavar="PORT", help="Port to listen on [a free one]."),
]
Host: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Address to listen on; 0.0.0.0: all. Anyone who reaches it is let in.",
    ),
]
BasePath: TypeAlias = Annotated[
    str,
    typer.Option(metavar="PATH", help="First part of all paths, behind a proxy, such as /mlflow."),
]
Dashboard: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--dashboard",
        metavar="STUDY",
        help="Serve Optuna's dashboard of a study, on 127.0.0.1.",
        autocompletion=study_names,
    ),
]
Submitted: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        metavar="EXPERIMENT",
        help="YAML file in the checkout or the current folder, or a preset.",
        autocompletion=preset_names,
    ),
]

Keys: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. data.size=32."),
]


def data(
    source: Annotated[
        str, typer.Argument(metavar="EXPERIMENT|SOURCE", help="A YAML file or a source's name.")
    ],
    rows: Annotated[
        Path | None,
        typer.Option("--rows", metavar="FILE", help="Write which row is which file, as CSV."),
    ] = None,
    settings: Keys = None,
    home: Home = None,
    address: Unused = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Import a data source into the cache and show what is in it."""

    def command() -> Outcome:
        with showing("reading the images"):
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
    experiment: Annotated[
        Path | None,
        typer.Argument(metavar="EXPERIMENT", help="An experiment that must be able to start."),
    ] = None,
    settings: Settings = None,
    home: Home = None,
    address: Address = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Check Python, packages, processors, Ray, disk, store and tracking; then an experiment.

    An experiment is checked as a sweep and --dry-run check it: data, space, and for models and
    methods of others one step of training and one epoch of unlearning. Nothing is written.
    """

    def command() -> Outcome:
        from dataclasses import asdict

        from distributed.cluster.connection import local
        from distributed.config.read import read_experiment, read_storage, read_tracking
        from distributed.doctor import checks
        from distributed.runtime.addresses import resolve

        read = read_experiment(experiment, settings or []) if experiment else None
        tracking = read.tracking if read else read_tracking(settings or [])
        storage = read.storage if read else read_storage(settings or [])
        uri, _ = resolve(tracking.uri, tracking.storage, home_folder(home))
        # As Ray itself does: the cluster checked is the one that a sweep would join.
        ray_address = address or os.environ.get("RAY_ADDRESS")
        found = checks(home_folder(home), uri, ray_address, storage.study, storage.files)
        code = DONE if all(check.ok for check in found) else FAILED
        if read and experiment:
            last, refused = _check_experiment(
                read, home_folder(home), file=experiment, local=local(ray_address)
            )
            found, code = [*found, last], refused or code
        for check in found:
            mark = "[green]ok[/]  " if check.ok else "[red]fail[/]"
            remedy = "" if check.ok or not check.remedy else f" → {check.remedy}"
            console().print(f"{mark} {check.name}: {check.detail}{remedy}", soft_wrap=True)
        return Outcome(result=[asdict(check) for check in found], code=code)

    run_command(command, as_json=as_json, verbose=verbose)


def _check_experiment(
    experiment: "Experiment", home: Path, *, file: Path, local: bool
) -> "tuple[Check, int]":
    """Check an experiment as the start of its sweep does; write nothing.

    A model or a method of others makes one step of training and one epoch of unlearning.

    Args:
        experiment: what the user wrote.
        home: the home; it need not exist.
        file: of the experiment, for messages.
        local: whether trials would run on this machine.

    Returns:
        The finding, and the exit code of a sweep that would end so; 0 if it would start.
    """
    from distributed.doctor import Check
    from distributed.plan.make import make_plan

    try:
        plan = make_plan(experiment, home, command=f"mixunlearn references {file}", local=local)
    except MixUnlearnError as error:
        return Check(name="experiment", ok=False, detail=redact(str(error))), error.exit_code
    forget, retain = len(plan.splits.forget_N), len(plan.splits.retain_N)
    detail = f"{plan.study} can start: {counted(forget, 'image')} to forget, {retain} to retain"
    return Check(name="experiment", ok=True, detail=detail), 0


def ui(
    study: Shown = None,
    port: Port = None,
    host: Host = "127.0.0.1",
    base_path: BasePath = "",
    dashboard: Dashboard = None,
    settings: Places = None,
    home: Home = None,
    address: Unused = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Serve MLflow's pages of the home and open a study there, until Ctrl-C."""

    def command() -> Outcome:
        from distributed.config.read import read_tracking
        from distributed.runtime.addresses import REMOTE, resolve
        from distributed.runtime.text import redact
        from distributed.serve.pages import HOST, serve, serve_dashboard
        from distributed.study.folder import full_name, require_study

        folder = home_folder(home)
        if dashboard is not None:
            from distributed.plan.make import record_of

            name = full_name(folder, dashboard)
            record = record_of(name, settings or [], folder)
            code = serve_dashboard(name, record, port, _ready, say=_say)
            return Outcome(result={"uri": redact(record)}, code=code)
        if host != HOST:
            _say(EXPOSED.format(host))
        tracking = read_tracking(settings or [])
        uri, artifacts = resolve(tracking.uri, tracking.storage, folder)
        # A server elsewhere may have studies that this home does not have.
        name_of = full_name if uri.startswith(REMOTE) else require_study
        shown = study if study is None else name_of(folder, study)
        serve_it = partial(serve, study=shown, host=host, base_path=base_path)
        code = serve_it(folder, uri, artifacts, port, _ready, say=_say)
        return Outcome(result={"uri": redact(uri)}, code=code)

    run_command(command, as_json=as_json, verbose=verbose)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _ready(link: str) -> None:
    """Print the address of a page; open it if somebody sits in front of this machine."""
    console().print(f"ready: {link} (Ctrl-C ends it)", soft_wrap=True)
    # Elsewhere the browser would be one in the terminal, or none.
    screen = sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    if screen and sys.stdout.isatty():
        webbrowser.open(link)


def submit(
    experiment: Submitted = None,
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
        str | None,
        typer.Option(metavar="FOLDER", help="Folder on the cluster's head ['~/mixunlearn-runs']."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="The cluster's dashboard [http://127.0.0.1:8265]."),
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
