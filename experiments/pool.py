"""Trains the originals and references of an experiment, many small models at a time, without Ray.

    PYTHONPATH=. python experiments/pool.py experiments/mnist_class.yaml \
        --set references.originals=16 --set references.seeds=56 --home runs

fills the same store as `mixunlearn references` with the same options. On a GPU, models are trained
together; on CPUs one by one, in as many processes as are asked for, with one thread each.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch

from distributed.config.read import read_experiment
from distributed.plan.make import make_plan
from distributed.plan.plan import Plan
from mixunlearn.models import StagedModel
from mixunlearn.population import train_epoch
from mixunlearn.references import Member, ReferenceStore

TOGETHER = 32  # models that a GPU trains at a time
CPU = torch.device("cpu")

Job: TypeAlias = tuple[ReferenceStore, Member]
Trained: TypeAlias = tuple[StagedModel, float]  # on the CPU, with the seconds it took
T = TypeVar("T")
R = TypeVar("R")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what all experiments ask for."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=raw)
    parser.add_argument("--home", type=Path, default=Path("runs"))
    parser.add_argument("--device", type=torch.device, default=CPU, help="cpu or cuda")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    return parser


def opened(file: Path, settings: Sequence[str], home: Path) -> Plan:
    """Return the plan of an experiment; nothing is written."""
    command = f"python experiments/pool.py {file} {' '.join(f'--set {each}' for each in settings)}"
    return make_plan(read_experiment(file, settings), home, command=command, reading=True)


def fill(references: ReferenceStore, device: torch.device, processes: int) -> int:
    """Train and store the missing models; return how many were trained."""
    missing = references.missing()
    models = train([(references, member) for member in missing], device, processes)
    found = ((member, *each) for member, each in zip(missing, models, strict=True))
    for _ in parallel(partial(_keep, references), found, processes):
        pass
    return len(missing)


def train(jobs: Sequence[Job], device: torch.device, processes: int) -> Iterator[Trained]:
    """Train models of stores; yield them in order."""
    if device.type == "cpu":
        yield from parallel(_alone, jobs, processes)
        return
    for start in range(0, len(jobs), TOGETHER):
        yield from _together(jobs[start : start + TOGETHER], device)


def parallel(function: Callable[[T], R], items: Iterable[T], processes: int) -> Iterator[R]:
    """Yield the function's results in order, computed in processes with one thread each."""
    # Not forked: a process that has used a GPU or threads cannot be.
    context, threads = get_context("spawn"), torch.set_num_threads
    with ProcessPoolExecutor(processes, context, initializer=threads, initargs=(1,)) as executor:
        yield from executor.map(function, items)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of JSON lines; none if there is no such file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add JSON lines to a file."""
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _alone(job: Job) -> Trained:
    return _together([job], CPU)[0]


def _together(jobs: Sequence[Job], device: torch.device) -> list[Trained]:
    """Train some models as one; each is said to have taken its share of the time."""
    start = time.perf_counter()
    trainings = [references.training(member, device) for references, member in jobs]
    for _ in range(trainings[0].recipe.epochs):
        train_epoch(trainings)
    seconds = (time.perf_counter() - start) / len(jobs)
    return [(each.model.cpu(), seconds) for each in trainings]


def _keep(references: ReferenceStore, found: tuple[Member, StagedModel, float]) -> None:
    references.keep(*found)


def main() -> None:
    """Train the missing models of an experiment."""
    parser = arguments(__doc__)
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    plan = opened(args.file, args.settings, args.home)
    trained = fill(plan.references, args.device, args.processes)
    print(f"{plan.study}: {trained} models trained")  # noqa: T201


if __name__ == "__main__":
    main()
