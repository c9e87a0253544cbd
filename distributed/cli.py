"""The command line: what a user types, and what it prints.

Heavy packages are imported by the commands that need them, so that `--help` is quick.
"""

import json
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from rich.console import Console
from rich.table import Table

from distributed.addresses import cut, redact
from distributed.stop import ignored, terminated_as_interrupted
from mixunlearn.errors import InputError, MixUnlearnError

if TYPE_CHECKING:
    from distributed.plan import Plan
    from distributed.sweep import Session

DONE, FAILED, BAD_INPUT, TRIALS_FAILED = 0, 1, 2, 4
LONGEST_REASON = 500

app = typer.Typer(
    help="Tunes machine unlearning and proves how near the result is to retraining.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ExperimentFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT", help="YAML file; presets are in experiments/.")
]
Settings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. search.epochs=4."),
]
Home: TypeAlias = Annotated[
    Path | None, typer.Option(help="Where results are kept [MIXUNLEARN_HOME, else ./runs].")
]
Address: TypeAlias = Annotated[
    str | None, typer.Option(help="A Ray cluster [RAY_ADDRESS, else this machine].")
]
Unused: TypeAlias = Annotated[
    str | None, typer.Option("--address", hidden=True, help="Common to all commands; unused here.")
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="End standard output with the result as a JSON line.")
]
Verbose: TypeAlias = Annotated[bool, typer.Option("-v", "--verbose", help="Show tracebacks.")]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and the whole experiment, do nothing.")
]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended.

    Args:
        result: plain data for `--json`.
        code: the exit code.
    """

    result: Any
    code: int = DONE


@app.command()
def sweep(
    experiment: ExperimentFile,
    trials: Annotated[int | None, typer.Option(help="The study's total of trials.")] = None,
    settings: Settings = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run trials that failed once more.")
    ] = False,
    dry_run: DryRun = False,
    home: Home = None,
    address: Address = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Search the configuration that unlearns most like retraining; prints the verdict.

    The same command again does only what is missing: what was interrupted goes on, what --trials
    adds is added. Ctrl-C saves what runs, a second one ends at once. Exit code 4: trials failed.
    """

    def command() -> Outcome:
        total = [] if trials is None else [f"search.trials={trials}"]
        plan = _plan(experiment, [*(settings or []), *total], home, address)
        if dry_run:
            return _dry_run(plan)
        from distributed.sweep import run_sweep

        with _session(address) as session:
            for line in (*_announcement(plan), *_others(plan)):
                session.progress.say(line)
            summary = run_sweep(plan, session, retry_failed=retry_failed)
        _print_verdict(plan, summary)
        failed = summary["trials"]["failed"]
        return Outcome(result=summary, code=TRIALS_FAILED if failed else DONE)

    _run(command, as_json=as_json, verbose=verbose)


@app.command()
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
        plan = _plan(experiment, settings or [], home, address)
        if dry_run:
            return _dry_run(plan)
        from distributed.sweep import run_references

        with _session(address) as session:
            for line in _announcement(plan)[:-1]:
                session.progress.say(line)
            trained = run_references(plan, session)
        return _print_references(plan, trained)

    _run(command, as_json=as_json, verbose=verbose)


@app.command()
def sync(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A study's name: a folder in HOME/studies.")
    ],
    settings: Settings = None,
    home: Home = None,
    address: Unused = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make trials.parquet and MLflow anew from a study, which alone is the record."""

    def command() -> Outcome:
        from distributed.plan import find_study
        from distributed.sweep import sync as write

        plan = find_study(study, settings or [], _home(home))
        with _session(None) as session:
            trials, problems = write(plan, session)
        _out().print(f"{study}: {trials} trials written to trials.parquet and MLflow")
        result = {"study": study, "trials": trials, "problems": problems}
        return Outcome(result=result, code=FAILED if problems else DONE)

    _run(command, as_json=as_json, verbose=verbose)


@app.command()
def data(
    source: Annotated[
        str, typer.Argument(metavar="EXPERIMENT|SOURCE", help="A YAML file or a source's name.")
    ],
    settings: Settings = None,
    home: Home = None,
    address: Unused = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Import a data source into the cache and show what is in it."""

    def command() -> Outcome:
        from distributed.inspection import inspect_data

        result = inspect_data(source, settings or [], _home(home))
        table = Table("part", "images", *result["classes"], title=_data_title(result))
        for part, counts in result["parts"].items():
            table.add_row(part, str(sum(counts)), *map(str, counts))
        _out().print(table)
        _out().print(f"cache: {result['cache']}", soft_wrap=True)
        return Outcome(result=result)

    _run(command, as_json=as_json, verbose=verbose)


@app.command()
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

        from distributed.addresses import resolve
        from distributed.doctor import checks
        from distributed.experiment import read_storage, read_tracking

        tracking, storage = read_tracking(settings or []), read_storage(settings or [])
        uri, _ = resolve(tracking.uri, tracking.storage, _home(home))
        ray_address = address or os.environ.get("RAY_ADDRESS")
        found = checks(_home(home), uri, ray_address, storage.study, storage.files)
        for check in found:
            mark = "[green]ok[/]  " if check.ok else "[red]fail[/]"
            remedy = "" if check.ok or not check.remedy else f" → {check.remedy}"
            _out().print(f"{mark} {check.name}: {check.detail}{remedy}", soft_wrap=True)
        healthy = all(check.ok for check in found)
        return Outcome(result=[asdict(check) for check in found], code=DONE if healthy else FAILED)

    _run(command, as_json=as_json, verbose=verbose)


@app.command()
def ui(
    port: Annotated[int | None, typer.Option(help="Port on 127.0.0.1 [a free one].")] = None,
    settings: Settings = None,
    home: Home = None,
    address: Unused = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Serve the MLflow UI of the home on 127.0.0.1 until Ctrl-C."""

    def command() -> Outcome:
        from distributed.addresses import redact, resolve
        from distributed.experiment import read_tracking
        from distributed.ui import serve

        tracking = read_tracking(settings or [])
        uri, artifacts = resolve(tracking.uri, tracking.storage, _home(home))
        code = serve(_home(home), uri, artifacts, port, lambda line: _out().print(line))
        return Outcome(result={"uri": redact(uri)}, code=code)

    _run(command, as_json=as_json, verbose=verbose)


@app.command()
def submit(
    experiment: Annotated[
        Path | None, typer.Argument(metavar="[EXPERIMENT]", help="YAML file in the checkout.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="The study's total of trials.")] = None,
    settings: Settings = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run the failed trials again.")
    ] = False,
    follow: Annotated[bool, typer.Option(help="Show the job's log until it ends.")] = True,
    status: Annotated[
        str | None, typer.Option("--status", metavar="JOB", help="Say how a job does.")
    ] = None,
    stop: Annotated[
        str | None,
        typer.Option("--stop", metavar="JOB", help="Stop a job; sent again it goes on."),
    ] = None,
    home: Annotated[
        str | None, typer.Option(help="Folder on the cluster's head ['~/mixunlearn-runs'].")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="The cluster's dashboard [http://127.0.0.1:8265].")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Send a sweep to a Ray cluster as a job and follow it; ask after a job, or stop it.

    Ctrl-C ends the following, not the job. The exit code is the sweep's.
    """

    def command() -> Outcome:
        from distributed.submit import run

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
            follow=follow,
            show=lambda text: print(text, end="", file=sys.stderr, flush=True),
        )
        _out().print(state.line, soft_wrap=True)
        waited = follow and experiment is not None
        return Outcome(result=state.as_json(), code=state.code if waited else DONE)

    _run(command, as_json=as_json, verbose=verbose)


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        app(prog_name="mixunlearn")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED
    return DONE


def _run(command: Callable[[], Outcome], *, as_json: bool, verbose: bool) -> None:
    """Run a command; turn its errors into one line and an exit code."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    try:
        with terminated_as_interrupted():
            outcome = command()
    except MixUnlearnError as error:
        _complain(str(error), verbose=verbose)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        with ignored():
            again = shlex.join(["mixunlearn", *sys.argv[1:]])
            reason = f"stopped{f' by {error}' if str(error) else ''}; go on with: {again}"
            _complain(reason, verbose=verbose)
        raise typer.Exit(FAILED) from error
    except Exception as error:
        reason = cut(f"{type(error).__name__}: {error}", LONGEST_REASON)
        _complain(f"{reason}; -v shows where", verbose=verbose)
        raise typer.Exit(FAILED) from error
    if as_json:
        print(json.dumps(outcome.result, allow_nan=False))
    raise typer.Exit(outcome.code)


@contextmanager
def _session(address: str | None) -> Iterator["Session"]:
    """Give what a command that changes a study works with."""
    from distributed.progress import Progress
    from distributed.stop import Stop
    from distributed.sweep import Session

    with (
        Progress() as progress,
        Stop(progress.say) as stop,
        Session(address=address, progress=progress, stop=stop) as session,
    ):
        yield session


def _complain(reason: str, *, verbose: bool) -> None:
    """Print what went wrong in one line; with `verbose`, where it did before."""
    if verbose:
        print(redact(traceback.format_exc()), end="", file=sys.stderr)
    print(f"mixunlearn: {redact(' '.join(reason.split()))}", file=sys.stderr)


def _home(home: Path | None) -> Path:
    chosen = home or Path(os.environ.get("MIXUNLEARN_HOME") or "runs")
    try:
        return chosen.expanduser()
    except RuntimeError as error:
        raise InputError("--home", str(chosen), "no such user; choose another folder") from error


def _out() -> Console:
    return Console(highlight=False)


def _plan(file: Path, settings: list[str], home: Path | None, address: str | None) -> "Plan":
    """Return the checked plan of an experiment file."""
    from distributed.cluster import local, require_answer
    from distributed.experiment import read_experiment
    from distributed.plan import make_plan

    command = f"mixunlearn references {file}"
    experiment = read_experiment(file, settings)
    plan = make_plan(experiment, _home(home), command=command, local=local(address))
    if plan.bank.missing():
        require_answer(address)
    return plan


def _announcement(plan: "Plan") -> list[str]:
    """Return what is going to be done, a line each."""
    experiment, splits, bank = plan.experiment, plan.splits, plan.bank
    shape = "×".join(map(str, plan.dataset.images_NFHW.shape[1:]))
    sizes = {
        part: len(getattr(splits, f"{part}_N")) for part in ("forget", "retain", "val", "test")
    }
    parts = ", ".join(f"{size} {part}" for part, size in sizes.items())
    missing = len(bank.missing())
    search = experiment.search
    return [
        f"study       {plan.study} in {plan.folder}",
        f"data        {experiment.data.source}, images of {shape}, {len(plan.dataset.classes)} "
        f"classes: {parts}",
        f"forget      {_forget_set(plan)}",
        f"models      1 original and {bank.references} references of {experiment.model.name}: "
        f"{missing} to train, {len(bank.members) - missing} cached",
        f"trials      {search.trials} of {experiment.method} (label-{experiment.labels}), at "
        f"most {search.epochs} epochs, {search.sampler} + {search.scheduler}, minimising "
        f"{search.objective} on val; {plan.workers}",
    ]


def _others(plan: "Plan") -> list[str]:
    """Return a line for each study of this name that the settings no longer belong to."""
    from distributed.plan import earlier

    return [
        f"            a new study: {name} has other settings ({', '.join(keys) or 'other data'})"
        for name, keys in earlier(plan)
    ]


def _disk(plan: "Plan") -> dict[str, int]:
    """Return the bytes each part of a study takes at most."""
    from distributed.disk import estimate

    return estimate(plan, plan.slots)


def _forget_set(plan: "Plan") -> str:
    task, names = plan.experiment.task, plan.dataset.classes
    number = len(plan.splits.forget_N)
    match task.kind:
        case "class":
            chosen = ", ".join(names[index] for index in task.classes)
            return f"all {number} training images of class {chosen}"
        case "data":
            chosen = ", ".join(names[index] for index in task.classes or ()) or "the upper half"
            return f"{number} images: {task.fraction:.0%} of the training images of {chosen}"
    return f"{number} images: {task.fraction:.0%} of the training images"


def _dry_run(plan: "Plan") -> Outcome:
    """Print the plan and the resolved experiment."""
    from distributed.plan import resolved

    disk = _disk(plan)
    parts = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in disk.items())
    total = sum(disk.values()) / 2**20
    for line in (*_announcement(plan), *_others(plan)):
        _out().print(line, soft_wrap=True)
    _out().print(f"disk        at most {total:.0f} MiB: {parts}", soft_wrap=True)
    _out().print(f"\n{resolved(plan.experiment)}", soft_wrap=True)
    missing = [f"{member.role} {member.seed}" for member in plan.bank.missing()]
    result = {
        "study": plan.study,
        "folder": str(plan.folder),
        "models_to_train": missing,
        "disk_bytes": disk,
        "experiment": plan.experiment.model_dump(),
        "default": plan.default,
    }
    return Outcome(result=result)


def _print_verdict(plan: "Plan", summary: dict[str, Any]) -> None:
    """Print the table, where the files are, and what to type next."""
    from report.tables import summary_table

    out = _out()
    out.print(summary_table(summary))
    out.print(f"\nfiles   {plan.folder}: trials.parquet, summary.json, plots/", soft_wrap=True)
    home = "" if plan.home == Path("runs") else f" --home {plan.home}"
    out.print(f"MLflow  mixunlearn ui{home}", soft_wrap=True)


def _print_references(plan: "Plan", trained: int) -> Outcome:
    """Print what the references score."""
    from distributed.summary import distribution

    table = Table("metric", "mean", "sd", "n", title=f"references of {plan.experiment.name}, test")
    metrics: dict[str, Any] = {}
    own = plan.bank.judge("test").references
    for name in [*own.evaluations[0].metrics, "div/js"]:
        found = metrics[name] = distribution(own.values(name))
        cells = ["–" if found[key] is None else f"{found[key]:.2f}" for key in ("mean", "sd")]
        table.add_row(name, *cells, str(found["n"]))
    _out().print(table)
    keys = {f"{member.role} {member.seed}": plan.bank.key(member) for member in plan.bank.members}
    return Outcome(result={"trained": trained, "models": keys, "references": metrics})


def _data_title(result: dict[str, Any]) -> str:
    shape = "×".join(map(str, result["shape"]))
    return (
        f"{result['source']}: {result['images']} images of {shape}, digest {result['digest'][:12]}"
    )
