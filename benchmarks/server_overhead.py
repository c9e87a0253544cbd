"""The cost of tracking through a server: time of a search with it, divided by the time without.

MLflow's own server runs on the same machine, with a new database for each search. It is ready
before the measurement starts; after that, its computations slow down the trials. Trials take ten
seconds, so that the import of MLflow, once per search, has the same share as in a search of
minutes.
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from benchmarks import publish, say, spread
from benchmarks.ray_efficiency import SPACE, Run, fill, plan_in
from benchmarks.tracking_overhead import after_start, require_same, run_alone
from benchmarks.writer_throughput import serving

TARGET = 1.02
PAIRS = 3
TRIALS = 16
EPOCHS = 32  # about 10 seconds a trial


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A search with tracking and one without.

    Args:
        on, off: the searches.
        server_cpu_s: CPU seconds of the server during the search with tracking.
    """

    on: Run
    off: Run
    server_cpu_s: float


def main() -> None:
    """Run the pairs and print the result."""
    os.environ.pop("RAY_ADDRESS", None)  # this machine is measured, not a cluster
    # A random search always proposes the same trials, for any results in any order.
    search = {"trials": TRIALS, "epochs": EPOCHS, "space": SPACE}
    settings = {**search, "scheduler": "none", "sampler": "random"}
    with tempfile.TemporaryDirectory() as folder:
        fill(plan_in(Path(folder) / "first", settings))
        pairs = [run_pair(Path(folder), settings, number) for number in range(PAIRS)]
    require_same([run for pair in pairs for run in (pair.on, pair.off)])
    report(pairs)


def run_pair(folder: Path, settings: Mapping[str, object], number: int) -> Pair:
    """Run both searches of a pair; which one comes first alternates from pair to pair."""
    if number % 2:
        off = run_alone(folder, settings, tracked=False)
        on, server_cpu = run_tracked(folder, settings)
    else:
        on, server_cpu = run_tracked(folder, settings)
        off = run_alone(folder, settings, tracked=False)
    return Pair(on=on, off=off, server_cpu_s=server_cpu)


def run_tracked(folder: Path, settings: Mapping[str, object]) -> tuple[Run, float]:
    """Run a search that logs to its own server; return it and the server's CPU time."""
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as server:
        before = cpu_seconds(server.process.pid)
        run = run_alone(folder, settings, tracked=True, uri=server.link)
        return run, cpu_seconds(server.process.pid) - before


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and its descendants that still run."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def report(pairs: list[Pair]) -> None:
    """Print the result."""
    more = [pair.on.seconds - pair.off.seconds for pair in pairs]
    cpu = [pair.on.driver_cpu_s - pair.off.driver_cpu_s + pair.server_cpu_s for pair in pairs]
    say(f"a server adds {median(more):.1f} s to {median(p.off.seconds for p in pairs):.1f} s")
    publish(
        "server_overhead",
        [pair.on.seconds / pair.off.seconds for pair in pairs],
        at_most=TARGET,
        of="a search with a running tracking server, compared with one without tracking",
        after_first_epoch=spread([after_start(p.on) / after_start(p.off) for p in pairs]),
        tracked_s=spread([pair.on.seconds for pair in pairs]),
        untracked_s=spread([pair.off.seconds for pair in pairs]),
        added_s=spread(more),
        added_to_start_s=spread([p.on.first_epoch_s - p.off.first_epoch_s for p in pairs]),
        added_cpu_s=spread(cpu),
        added_cpu_share=spread(
            [each / (p.off.slots * p.off.seconds) for each, p in zip(cpu, pairs, strict=True)]
        ),
        server_cpu_s=spread([pair.server_cpu_s for pair in pairs]),
        drained_s=spread([pair.on.drained_s for pair in pairs]),
        trials=TRIALS,
        epochs=EPOCHS,
        slots=pairs[0].on.slots,
    )


if __name__ == "__main__":
    main()
