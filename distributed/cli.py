"""The command line: what a user types, and what it prints.

Heavy packages are imported by the commands that need them, so that `--help` is quick.
"""

import json
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from distributed.addresses import cut, redact
from distributed.stop import ignored, terminated_as_interrupted
from mixunlearn.errors import InputError, MissingError, MixUnlearnError

if TYPE_CHECKING:
    from distributed.comparison import Cell, Comparison, Plans
    from distributed.nightly.nights import Nights
    from distributed.nightly.records import NightRecord
    from distributed.plan import Plan
    from distributed.rerun import Comparison as Repeated
    from distributed.sweep import Session

DONE, FAILED, BAD_INPUT, REGRESSED, TRIALS_FAILED = 0, 1, 2, 3, 4
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
    promote: Annotated[
        bool, typer.Option("--promote", help="Make the best model `champion`, unless it is worse.")
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
    With --promote, exit code 1: the champion was not replaced.
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
        code = TRIALS_FAILED if summary["trials"]["failed"] else DONE
        promoted = _promote(plan, summary, verbose=verbose) if promote else None
        if promoted and not promoted["done"]:
            code = FAILED
        return Outcome(result={**summary, "promoted": promoted}, code=code)

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
def compare(
    comparison: Annotated[
        Path, typer.Argument(metavar="COMPARISON", help="YAML file; see experiments/small/.")
    ],
    only: Annotated[
        str | None,
        typer.Option(metavar="AXIS=NAME,…", help="Cells to run, e.g. method=finetune,task=class."),
    ] = None,
    settings: Settings = None,
    dry_run: DryRun = False,
    home: Home = None,
    address: Address = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Search every method with the same budget on the same problems; prints the tables.

    The same command again goes on where it was stopped. Exit code 4: a study could not be run.
    """

    def command() -> Outcome:
        from distributed.cluster import local
        from distributed.compare import run_comparison
        from distributed.comparison import Plans, cells, chosen, read_comparison

        wanted = read_comparison(comparison, settings or [])
        found = cells(wanted)
        some = chosen(found, only)
        again = f"mixunlearn compare {comparison}"
        plans = Plans(_home(home), command=again, local=local(address))
        for cell in some:
            if cell.experiment:
                plans.of(cell)  # whatever is wrong with it is said before anything runs
        if dry_run:
            return _dry_comparison(wanted, some, plans)
        with _session(address) as session:
            failures = run_comparison(wanted, some, found, plans, session)
        return _compared(wanted, found, plans, failures)

    _run(command, as_json=as_json, verbose=verbose)


@app.command()
def nightly(
    plan: Annotated[
        Path, typer.Argument(metavar="PLAN", help="YAML file; see experiments/nightly/.")
    ],
    date: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM-DD", help="Which night [today, where the plan is]."),
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Print the verdicts of all nights, run none.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Run a night that is done once more, on other seeds.")
    ] = False,
    settings: Settings = None,
    home: Home = None,
    address: Address = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Measure the champion again, search on, duel with the best candidate; print the verdict.

    Once a date: the same command resumes a night that was cut off, or prints a finished one.
    Exit codes: 3 regressed, 1 failed, 4 trials failed.
    """

    def command() -> Outcome:
        from distributed.cluster import local
        from distributed.config.nightly import read_nightly
        from distributed.nightly.nights import Nights
        from distributed.nightly.run import run_nights

        wanted, experiments = read_nightly(plan, settings or [])
        place = _home(home)
        if history:
            return _history(Nights(place, wanted.name))
        night = _date(date) or wanted.today(datetime.now(tz=UTC))
        with _session(address) as session:
            record = run_nights(
                wanted,
                experiments,
                night,
                session,
                place,
                command=f"mixunlearn nightly {plan}",
                local=local(address),
                force=force,
            )
        return _of_night(record, Nights(place, wanted.name))

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
def rerun(
    trial: Annotated[
        str,
        typer.Argument(metavar="RUN_ID|STUDY/TRIAL", help="A trial's run in MLflow, or its place."),
    ],
    settings: Settings = None,
    home: Home = None,
    address: Address = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Run a trial again, from its MLflow run or its study alone, and compare.

    Exit code 1: it ended otherwise, by more than the references differ among themselves.
    """

    def command() -> Outcome:
        from distributed.rerun import repeat

        with _session(address) as session:
            found = repeat(trial, settings or [], _home(home), session)
        _print_comparison(found)
        return Outcome(result=found.as_json(), code=DONE if found.confirmed else FAILED)

    _run(command, as_json=as_json, verbose=verbose)


@app.command("report")
def write_report(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY", help="Names: folders in HOME/studies.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="The file; without it, report.html in the study's folder or in HOME."),
    ] = None,
    settings: Settings = None,
    home: Home = None,
    address: Unused = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write a page on a study, or on several side by side: one file that needs no network."""

    def command() -> Outcome:
        from distributed.plan import find_study
        from distributed.sweep import PAGE, review_of
        from report.page import write_page

        names = list(dict.fromkeys(studies))
        plans = [find_study(name, settings or [], _home(home)) for name in names]
        path = output or (plans[0].folder if len(plans) == 1 else _home(home)) / PAGE
        with _writing(path):
            write_page([review_of(plan) for plan in plans], path)
        _out().print(str(path), soft_wrap=True)
        size = path.stat().st_size
        return Outcome(result={"path": str(path), "bytes": size, "studies": names})

    _run(command, as_json=as_json, verbose=verbose)


@app.command("export")
def write_export(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A study's name: a folder in HOME/studies.")
    ],
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="csv, json, latex or parquet.")
    ] = "csv",
    output: Annotated[Path | None, typer.Option(help="The file; else standard output.")] = None,
    settings: Settings = None,
    home: Home = None,
    address: Unused = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Export all trials of a study as csv, json or parquet, or its verdict as a LaTeX table."""

    def command() -> Outcome:
        from distributed.plan import find_study
        from report.export import require_format

        require_format(form, file=output is not None)
        content, trials = _exported(find_study(study, settings or [], _home(home)), form)
        if output is None:
            _put(content)
        else:
            _replace(output, content)
            _out().print(str(output), soft_wrap=True)
        path = output and str(output)
        result = {"study": study, "format": form, "trials": trials, "path": path}
        return Outcome(result={**result, "bytes": len(content)})

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
        parts = result["parts"]
        table = Table("class", *parts, title=_data_title(result))
        table.add_row("all", *(str(sum(counts)) for counts in parts.values()), end_section=True)
        for name, *counts in zip(result["classes"], *parts.values(), strict=True):
            table.add_row(escape(name), *map(str, counts))
        _out().print(table)
        for line in result["skipped"]:
            _out().print(f"skipped: {line}", soft_wrap=True, markup=False)
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
    port: Annotated[
        int | None, typer.Option(help="Port on 127.0.0.1; without it a free one.")
    ] = None,
    dashboard: Annotated[
        str | None,
        typer.Option("--dashboard", metavar="STUDY", help="Optuna's dashboard of a study instead."),
    ] = None,
    settings: Settings = None,
    home: Home = None,
    address: Unused = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Serve the MLflow UI of the home, or a study's dashboard, on 127.0.0.1 until Ctrl-C."""

    def command() -> Outcome:
        from distributed.addresses import redact, resolve
        from distributed.experiment import read_tracking
        from distributed.ui import serve, serve_dashboard

        def announce(line: str) -> None:
            _out().print(line, soft_wrap=True)

        if dashboard is not None:
            from distributed.plan import record_of

            uri = record_of(dashboard, settings or [], _home(home))
            code = serve_dashboard(dashboard, uri, port, announce)
        else:
            tracking = read_tracking(settings or [])
            uri, artifacts = resolve(tracking.uri, tracking.storage, _home(home))
            code = serve(_home(home), uri, artifacts, port, announce)
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


def _date(text: str | None) -> date | None:
    """Return the date a user wrote."""
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
    _out().print(trend(records))
    return Outcome(result={"nights": [_brief(record) for record in records]})


def _of_night(record: "NightRecord", nights: "Nights") -> Outcome:
    """Print a night's verdict and where its page is; regressed comes before all else."""
    from report.nightly.headline import headline
    from report.nightly.history import trend
    from report.nightly.page import NIGHT_PAGE

    plain = record.as_json()
    _out().print(trend([plain]))
    _out().print(headline(plain))
    _out().print(f"page: {nights.of(record.date) / NIGHT_PAGE}", soft_wrap=True)
    failed = any(part.trials and part.trials.failed for part in record.experiments)
    if record.verdict == "regressed":
        code = REGRESSED
    else:
        code = FAILED if record.error else TRIALS_FAILED if failed else DONE
    return Outcome(result=plain, code=code)


def _brief(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("date", "state", "verdict", "error", "seconds")}


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
        f"forget      {plan.forget_set}",
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


def _promote(plan: "Plan", summary: dict[str, Any], *, verbose: bool) -> dict[str, Any]:
    """Promote the best trial's model; say what came of it, and return it as plain data."""
    from distributed.sweep import promote_best

    try:
        reason = promote_best(plan, summary)
    except MixUnlearnError as error:  # the sweep itself succeeded: its result is printed
        _complain(str(error), verbose=verbose)
        return {"done": False, "reason": redact(str(error))}
    _out().print(f"model   {reason}", soft_wrap=True)
    return {"done": True, "reason": reason}


def _dry_comparison(comparison: "Comparison", cells: Sequence["Cell"], plans: "Plans") -> Outcome:
    """Print what would be done of a comparison."""
    from distributed.compare import done

    states = {
        cell.title: (cell.unfit and f"n/a: {cell.unfit}")
        or ("done" if done(plans.of(cell)) else "to run")
        for cell in cells
    }
    for title, state in states.items():
        _out().print(f"{title}: {state}", soft_wrap=True, markup=False)
    return Outcome(result={"name": comparison.name, "cells": states})


def _compared(
    comparison: "Comparison",
    cells: Sequence["Cell"],
    plans: "Plans",
    failures: dict[str, str],
) -> Outcome:
    """Print the tables of a comparison."""
    from distributed.compare import PAGE, folder_of, ranks, results
    from report.comparison import tables
    from report.comparison_page import drawn

    made = tables(results(cells, plans, failures))
    for table in made:
        _out().print(drawn(table))
    page = folder_of(comparison, plans.home) / PAGE
    _out().print(str(page), soft_wrap=True)
    result = {
        "name": comparison.name,
        "page": str(page),
        "ranks": ranks(made),
        "failures": failures,
    }
    return Outcome(result=result, code=TRIALS_FAILED if failures else DONE)


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


def _print_comparison(found: "Repeated") -> None:
    """Print in which metrics a trial that was run again differs, and what to think of it."""
    table = Table("metric", "then", "now", "difference", "references' sd", "")
    for name, pair in found.differing.items():
        numbers = (pair.then, pair.now, pair.difference, pair.spread)
        cells = ["–" if number is None else f"{number:.6g}" for number in numbers]
        table.add_row(name, *cells, "" if pair.within else "more")
    if found.differing:
        _out().print(table)
    which = f"{found.recorded.study}, trial {found.recorded.trial}"
    _out().print(f"{which}: {found.verdict}", soft_wrap=True, markup=False)


def _exported(plan: "Plan", form: str) -> tuple[bytes, int]:
    """Return a study in a format, and how many trials it has."""
    from contextlib import closing

    from distributed.results import RUN_ID, known_run_ids, trials_table
    from distributed.sweep import open_study, read_summary
    from report.export import export

    runs = known_run_ids(plan.folder / "trials.parquet")
    with closing(open_study(plan)) as study:
        rows = [{**row, RUN_ID: runs.get(row["trial"])} for row in study.rows()]
    summary = {"study": plan.study, **read_summary(plan)}
    return export(trials_table(rows), summary, form), len(rows)


def _put(content: bytes) -> None:
    """Write to standard output; whoever reads it may have had enough of it."""
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole, or leave what was there."""
    from distributed.results import replacing

    with _writing(path), replacing(path) as temporary:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Explain why a file cannot be written where the user wants it."""
    try:
        yield
    except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        remedy = f"cannot be written ({error.strerror}); choose another file"
        raise InputError("--output", str(path), remedy) from error


def _data_title(result: dict[str, Any]) -> str:
    shape = "×".join(map(str, result["shape"]))
    return (
        f"{result['source']}: {result['images']} images of {shape}, digest {result['digest'][:12]}"
    )
