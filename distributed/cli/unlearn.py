"""`unlearn`."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer
from rich.table import Column, Table

from distributed.cli.last_lines import at_home, print_last
from distributed.cli.options import (
    DONE,
    Home,
    Json,
    Outcome,
    Verbose,
    complain,
    home_folder,
    open_session,
    run_command,
    showing,
)
from distributed.cli.show import console, duplicates
from mixunlearn.data.names import printable
from mixunlearn.errors import InputError
from mixunlearn.redaction import redact
from mixunlearn.wording import counted

if TYPE_CHECKING:
    import torch

    from distributed.requests.carry_out import Job
    from distributed.requests.request import Request, Wish
    from distributed.requests.run import Format, Output
    from mixunlearn.data.arrow import Dataset


Out: TypeAlias = Annotated[
    str, typer.Option(metavar="FOLDER", help="Folder for the new model and its record.")
]
Forget: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="LIST|FOLDER|class:NAME",
        help="What to forget: a file of ids (CSV, Parquet, JSON, NumPy), a folder with copies of "
        "the images, or whole classes.",
    ),
]
Requests: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|TABLE",
        help="In place of --forget: several requests, each handled once and in order. A folder "
        "with a list for each, or a table with a column `request`.",
    ),
]
Config: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="auto|STUDY|RUN_ID|FILE",
        help="Method and hyperparameters: the winner of a study, a trial, or a file; auto takes "
        "the nearest study of the home.",
    ),
]
Model: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Name of the model, e.g. my_pkg.net:build [the study's]."),
]
Weights: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|ADDRESS",
        help="The trained model's weights: a file, or an MLflow address [the study's].",
    ),
]
Data: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE|PATH", help="A source, a Parquet file or a folder of images [the study's]."
    ),
]
Name: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Name of the request in its record [that of --out]."),
]
Verify: TypeAlias = Annotated[
    bool, typer.Option("--verify", help="Retrain models without the data, and compare.")
]
OfWeights: TypeAlias = Annotated[
    str, typer.Option("--format", metavar="safetensors|pt", help="Format of the new weights.")
]
Device: TypeAlias = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute; auto: cuda, else cpu.")
]
Address: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="For --verify: a Ray cluster [RAY_ADDRESS, else this machine]."
    ),
]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, say what it costs; write nothing.")
]

Keys: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. data.test=test.parquet."),
]


def unlearn(
    out: Out,
    forget: Forget = None,
    requests: Requests = None,
    config: Config = "auto",
    model: Model = None,
    weights: Weights = None,
    data: Data = None,
    name: Name = None,
    verify: Verify = False,
    as_format: OfWeights = "safetensors",
    device: Device = "auto",
    settings: Keys = None,
    dry_run: DryRun = False,
    home: Home = None,
    address: Address = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make your trained model forget; write its new weights, a model card and a deletion record.

    The same command again resumes, or adds what is missing. Without --verify, nothing retrained
    says how near the result is to retraining: its state is "unverified". Exit code with --verify:
    0 equivalent to retraining, 5 better than doing nothing, 6 undecided, 7 no better, 8 harmful.
    """

    def command() -> Outcome:
        from distributed.requests.places import out_folder, request_name
        from distributed.requests.request import Wish

        _require_one(forget, requests, name)
        where = home_folder(home)
        folder = out_folder(out, where)
        asked = Asked(
            wish=Wish(
                forget=forget or "",
                model=model,
                weights=weights,
                data=data,
                settings=settings or [],
                command=printable(shlex.join(["mixunlearn", *sys.argv[1:]])),
            ),
            config=config,
            home=where,
            form=_format(as_format),
            device=_device(device),
            verified=verify,
            address=address,
        )
        if requests is not None:
            return _in_sequence(asked, requests, folder, dry_run=dry_run)
        return _once(asked, request_name(name, folder), folder, dry_run=dry_run)

    run_command(command, as_json=as_json, verbose=verbose)


def _require_one(forget: str | None, requests: str | None, name: str | None) -> None:
    """Check that what to forget is said once."""
    if (forget is None) == (requests is None):
        raise InputError("--forget", forget, "give either --forget or --requests")
    if requests is not None and name is not None:
        raise InputError("--name", name, "each of --requests has the name of its list")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the options say, checked.

    Args:
        wish: the request.
        config: where its configuration is from.
        home: where records and studies are kept.
        form: of the weights.
        device: where to compute.
        verified: whether models are retrained to compare with.
        address: of a Ray cluster for that.
        opened: the data sets that were read, each once for all requests.
    """

    wish: "Wish"
    config: str
    home: Path
    form: "Format"
    device: "torch.device"
    verified: bool
    address: str | None
    opened: dict[str, "Dataset"] = field(default_factory=dict)

    def job(self, name: str, output: "Output") -> "Job":
        """Return the checked request, and how it is carried out; nothing is written."""
        with showing("checking the request"):
            from distributed.requests.carry_out import Job
            from distributed.requests.run import require_own

            # A record there is one of this request, which works then, or it is refused below.
            tried = output.record.is_file()
            found = Job(
                request=_checked(self, tried=tried),
                name=name,
                output=output,
                device=self.device,
                verified=self.verified,
            )
            require_own(found.request, output)
        return found

    def carried_out(self, job: "Job") -> dict[str, Any]:
        """Carry a request out and return its record."""
        from distributed.requests.carry_out import carry_out, recorded

        with open_session(self.address) as session:
            finished = f"{job.name} was finished before: nothing changes"
            for line in [finished] if recorded(job) else _announcement(job):
                session.progress.say(line)
            return carry_out(job, session)


def _once(asked: Asked, name: str, out: Path, *, dry_run: bool) -> Outcome:
    """Carry out one request."""
    from distributed.requests.run import Output

    job = asked.job(name, Output(folder=out, format=asked.form))
    if dry_run:
        return _planned([job])
    return _shown(job, asked.carried_out(job))


def _in_sequence(asked: Asked, requests: str, out: Path, *, dry_run: bool) -> Outcome:
    """Carry out several requests, one after another."""
    from distributed.requests.judge import CODES
    from distributed.requests.request import data_of
    from distributed.requests.sequence import Step, handle_all, make_steps, request_lists

    wish = asked.wish
    if wish.weights is None or wish.data is None:
        missing = "--weights" if wish.weights is None else "--data"
        raise InputError(missing, None, "missing: a sequence begins with your own model and data")

    def job(step: Step) -> "Job":
        own = replace(asked, wish=replace(wish, forget=step.rows, weights=step.weights))
        return own.job(step.name, step.output)

    dataset = data_of(wish, asked.home, asked.opened)
    with request_lists(requests) as lists:
        steps = make_steps(lists, dataset, wish.weights, out, asked.form)
    if dry_run:  # only the first: later ones need the model of the one before
        return _planned([job(steps[0])])
    records = handle_all(steps, dataset, out, asked.home, lambda step: asked.carried_out(job(step)))
    print(f"{counted(len(records), 'request')} handled; {out / 'README.md'} shows all")
    worst = max((CODES.get(each["verdict"]["state"], DONE) for each in records), default=DONE)
    return Outcome(result={"requests": records}, code=worst)


def _planned(jobs: Sequence["Job"]) -> Outcome:
    """Print what would be done."""
    lines = {job.name: _announcement(job) for job in jobs}
    for each in lines.values():
        for line in each:
            console().print(line, soft_wrap=True, markup=False)
    return Outcome(result={"plan": lines})


def _checked(asked: Asked, *, tried: bool) -> "Request":
    """Return the checked request, with the configuration that the user names or the nearest."""
    from distributed.requests.configuration import find_configuration
    from distributed.requests.request import make_request, nearest_configuration

    if asked.config == "auto":
        configuration = nearest_configuration(asked.wish, asked.home, asked.opened)
    else:
        configuration = find_configuration(asked.config, asked.home)
    return make_request(asked.wish, configuration, asked.home, asked.opened, tried=tried)


def _format(written: str) -> "Format":
    if written in {"safetensors", "pt"}:
        return cast("Format", written)
    raise InputError("--format", written, "must be safetensors or pt")


def _device(written: str) -> "torch.device":
    """Return the device to compute on."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if written not in {"auto", "cpu", *there}:
        raise InputError("--device", written, "must be auto, cpu, cuda or mps")
    if written in there and not there[written]:
        raise InputError("--device", written, "PyTorch finds no such GPU here; use cpu")
    if written == "mps":
        complain("warning: --device mps (Apple GPUs) has not been tested", verbose=False)
    found = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(found if written == "auto" else written)


def _announcement(job: "Job") -> list[str]:
    """Return what the command is going to do and what it costs, one line for each part."""
    request = job.request
    plan, configuration = request.plan, request.configuration
    sizes = f"{len(plan.splits.forget_N)} forget, {len(plan.splits.retain_N)} retain"
    chosen = [f"chosen      {configuration.chosen}"] if configuration.chosen else []
    return [
        f"request     {job.name}",
        f"model       {plan.experiment.model.name}, weights from {request.own.source}",
        f"data        {plan.experiment.data.source}: {sizes}",
        f"forget      {plan.forget_set}",
        *(f"warning     {line}" for line in duplicates(plan)),
        f"method      {configuration.method}, {counted(configuration.epochs, 'epoch')}, from "
        f"{configuration.source}",
        *chosen,
        f"cost        {job.cost.sentence}",
    ]


def _next(job: "Job") -> str:
    """Return the command that measures a result by retraining, or that checks its record."""
    if not job.verified:
        return redact(printable(shlex.join(["mixunlearn", *sys.argv[1:], "--verify"])))
    return f"mixunlearn record verify{at_home(job.request.plan.home)}"


def _shown(job: "Job", record: Mapping[str, Any]) -> Outcome:
    """Print what is known of the result, and where the files are."""
    from distributed.requests.judge import CODES
    from report.request_card import HEADING, costs, headline, rows

    name, *others = HEADING
    table = Table(
        Column(name, no_wrap=True), *others, title=f"{record['request']}: before and after"
    )
    for row in rows(record, job.request.plan.margins):
        table.add_row(*row)
    console().print(table)
    verdict = record["verdict"]
    for line in (*verdict["reasons"], costs(record)):
        console().print(line, soft_wrap=True, markup=False)
    print_last({
        "record": f"number {record['number']}, digest {record['digest']}",
        "verdict": headline(record),
        "model": str(job.output.folder),
        "next": _next(job),
    })  # fmt: skip
    return Outcome(result=dict(record), code=CODES.get(verdict["state"], DONE))
