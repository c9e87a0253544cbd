"""Runs the drills: `python -m tests.drills.run [DRILL ...]`.

Each run draws its moments from a seed: the same drill with the same seed repeats the run, as far
as timing can be repeated. Everything is real: processes, signals, file systems, servers.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.drills.ground import Ground, Outcome
from tests.drills.process import ROOT
from tests.drills.registry import DRILLS

SIZE = {"trials": 7, "epochs": 3}
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- the table of `make drills` -->", "<!-- end of the table -->"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a drill, done."""

    drill: str
    seed: int
    took: float
    outcome: Outcome


def perform(name: str, seed: int, folder: Path, ground: Ground) -> Run:
    """Run a drill once; any error is its outcome. The files of failed runs are kept."""
    start = time.monotonic()
    folder.mkdir(parents=True)
    try:
        outcome = DRILLS[name].drill(seed, folder, ground)
    except Exception as error:
        text = " ".join(str(error).split())
        outcome = Outcome(note=f"{type(error).__name__}: {text}")
    ground.leave(folder)
    if outcome.clean:
        shutil.rmtree(folder, ignore_errors=True)
    return Run(drill=name, seed=seed, took=time.monotonic() - start, outcome=outcome)


def table(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Return head and cells of the table, one row per drill."""
    head = ["drill", "runs", "lost", "doubled", "altered", "otherwise wrong", "seconds to recover"]
    cells = []
    for name, entry in DRILLS.items():
        outcomes = [run.outcome for run in runs if run.drill == name]
        done = [outcome for outcome in outcomes if not outcome.skipped]
        if not outcomes:
            continue
        counts = [sum(getattr(o, key) for o in done) for key in ("lost", "doubled", "altered")]
        wrong = sum(bool(o.note) and not (o.lost or o.doubled or o.altered) for o in done)
        cells.append([entry.title, str(len(done)), *map(str, [*counts, wrong]), _seconds(done)])
    return head, cells


def _seconds(outcomes: Iterable[Outcome]) -> str:
    known = [outcome.seconds for outcome in outcomes if outcome.seconds is not None]
    return f"{statistics.median(known):.0f} (at most {max(known):.0f})" if known else "–"


def markdown(runs: Sequence[Run], given: argparse.Namespace) -> str:
    """Return the table as Markdown, with the command that repeats it."""
    head, cells = table(runs)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *cells]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    minutes = sum(run.took for run in runs) / given.jobs / 60
    how = (
        f"{len(runs)} runs, {given.jobs} at a time, {minutes:.0f} minutes on {os.cpu_count()} cores"
    )
    return f'{rows}\n\n`make drills ARGS="--seed {given.seed}"`: {how}.\n'


def write(page: Path, text: str) -> None:
    """Put the table between the marks of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


def show(console: Console, runs: Sequence[Run]) -> None:
    """Print the table, then the errors."""
    head, cells = table(runs)
    found = Table(*head)
    done = {run.drill for run in runs}
    for name, line in zip((name for name in DRILLS if name in done), cells, strict=True):
        found.add_row(name, *line[1:])
    console.print(found)
    for run in runs:
        if run.outcome.note or run.outcome.skipped:
            note = run.outcome.note or f"skipped: {run.outcome.skipped}"
            console.print(f"{run.drill}, seed {run.seed}: {note}", soft_wrap=True, markup=False)


def options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills.run", description=__doc__)
    parser.add_argument("drills", nargs="*", metavar="DRILL", help=f"of {', '.join(DRILLS)}")
    parser.add_argument("--runs", type=int, help="of each drill, in place of its own number")
    parser.add_argument("--seed", type=int, default=0, help="of the first run of each drill")
    parser.add_argument("--jobs", type=int, default=3, help="runs at the same time")
    parser.add_argument("--folder", type=Path, help="for all files; by default a temporary one")
    parser.add_argument("--results", type=Path, default=ROOT / "runs" / "drills.jsonl")
    again = "leave out the runs that are in the file of results"
    parser.add_argument("--go-on", action="store_true", help=again)
    parser.add_argument(
        "--write", action="store_true", help=f"put the table into {PAGE.name}, if all drills run"
    )
    given = parser.parse_args(words)
    if unknown := set(given.drills) - set(DRILLS):
        parser.error(f"no such drill: {', '.join(sorted(unknown))}")
    return given


def main(words: Sequence[str] | None = None) -> int:
    """Run drills and return 1 if anything is wrong."""
    given, console = options(words), Console(stderr=True, highlight=False)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="drills-"))
    ground = Ground(folder / "ground", SIZE)
    chosen = given.drills or list(DRILLS)
    planned = [
        (name, given.seed + index)
        for name in chosen
        for index in range(given.runs or DRILLS[name].runs)
    ]
    random.Random(given.seed).shuffle(planned)  # so that a busy machine slows all drills equally
    given.results.parent.mkdir(parents=True, exist_ok=True)
    runs = [run for run in recorded(given.results) if (run.drill, run.seed) in planned]
    runs = runs if given.go_on else []
    done = {(run.drill, run.seed) for run in runs}

    def one(job: tuple[str, int]) -> None:
        name, seed = job
        run = perform(name, seed, folder / f"{name}-{seed}", ground)
        if not ground.open:  # it was stopped, and shows nothing
            return
        runs.append(run)
        log(run, given.results)
        state = "ok  " if run.outcome.clean else "FAIL"
        line = f"{len(runs)}/{len(planned)} {state} {name} {seed} ({run.took:.0f} s) "
        detail = run.outcome.note or run.outcome.skipped or run.outcome.moment
        console.print(line + detail, soft_wrap=True, markup=False)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ThreadPoolExecutor(given.jobs) as pool:
        try:
            list(pool.map(one, (job for job in planned if job not in done)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            ground.close()
            raise
    left = ground.clear()
    show(console, runs)
    if left:
        console.print(f"processes that outlived their driver: {', '.join(left)}")
    if given.write and not given.drills:  # some drills would take the rows of all others away
        write(PAGE, markdown(runs, given))
    if not left and all(run.outcome.clean for run in runs):
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    console.print(f"the files of failed runs are in {folder}", soft_wrap=True)
    return 1


def recorded(path: Path) -> list[Run]:
    """Return the runs in a file of results, the last one of each drill and seed."""
    found: dict[tuple[str, int], Run] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        plain = json.loads(line)
        drill, seed, took = (plain.pop(name) for name in ("drill", "seed", "took"))
        outcome = Outcome(**plain)
        found[drill, seed] = Run(drill=drill, seed=seed, took=took, outcome=outcome)
    return list(found.values())


def log(run: Run, path: Path) -> None:
    """Add a run to a file of results."""
    plain: dict[str, Any] = {"drill": run.drill, "seed": run.seed, "took": round(run.took, 1)}
    with path.open("a") as file:
        file.write(json.dumps({**plain, **asdict(run.outcome)}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
