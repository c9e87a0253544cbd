"""What tracking through a server costs a search: its time with one, divided by its time without.

MLflow's own server runs on the same machine, with a new database for each search, and is ready
before the clock starts; what it computes afterwards it takes from the trials. Trials take ten
seconds: importing MLflow, paid once a search, should weigh as it does in a search of minutes.
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
    """A search that was tracked and one that was not.

    Args:
        on, off: the searches.
        server_cpu_s: CPU seconds of the server during the first.
    """

    on: Run
    off: Run
    server_cpu_s: float


def main() -> None:
    """Run the pairs and print the result."""
    os.environ.pop("RAY_ADDRESS", None)  # what is measured is this machine
    # A random search proposes the same whatever comes back, and in whichever order.
    search = {"trials": TRIALS, "epochs": EPOCHS, "space": SPACE}
    settings = {**search, "scheduler": "none", "sampler": "random"}
    with tempfile.TemporaryDirectory() as folder:
        fill(plan_in(Path(folder) / "first", settings))
        pairs = [run_pair(Path(folder), settings, number) for number in range(PAIRS)]
    require_same([run for pair in pairs for run in (pair.on, pair.off)])
    report(pairs)


def run_pair(folder: Path, settings: Mapping[str, object], number: int) -> Pair:
    """Run both searches of a pair; each is the first one in every other pair."""
    if number % 2:
        off = run_alone(folder, settings, tracked=False)
        on, server_cpu = run_tracked(folder, settings)
    else:
        on, server_cpu = run_tracked(folder, settings)
        off = run_alone(folder, settings, tracked=False)
    return Pair(on=on, off=off, server_cpu_s=server_cpu)


def run_tracked(folder: Path, settings: Mapping[str, object]) -> tuple[Run, float]:
    """Run a search that a server of its own is told about; return it and the server's CPU time."""
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as server:
        before = cpu_seconds(server.process.pid)
        run = run_alone(folder, settings, tracked=True, uri=server.link)
        return run, cpu_seconds(server.process.pid) - before


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and of all that it started and that still run."""
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
        of="a search tracked by a server that runs already against one without tracking",
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
