"""The cost of tracking: time of a search with MLflow's database, divided by the time without.

Every search runs in its own process with its own home. With tracking, it imports MLflow and creates
a new database, as the first sweep in a home does; without tracking, MLflow cannot be imported. The
order alternates from pair to pair. If the trials are not exactly the same, there is no result.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import publish, say, spread
from benchmarks.ray_efficiency import SPACE, Run, fill, plan_in, require_complete, run_search
from mixunlearn.signature import signature

TARGET = 1.05
PAIRS = 3
TRIALS = 8
EPOCHS = 16  # about 5 seconds a trial
# A random search always proposes the same trials, for any results in any order.
SETTINGS = {
    "trials": TRIALS,
    "epochs": EPOCHS,
    "scheduler": "none",
    "sampler": "random",
    "space": SPACE,
}


def main() -> None:
    """Run the pairs and print the result."""
    os.environ.pop("RAY_ADDRESS", None)  # this machine is measured, not a cluster
    runs: dict[bool, list[Run]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        fill(plan_in(Path(folder) / "first", SETTINGS))
        for pair in range(PAIRS):
            for tracked in (True, False) if pair % 2 == 0 else (False, True):
                runs[tracked].append(run_alone(Path(folder), SETTINGS, tracked=tracked))
    require_same([*runs[True], *runs[False]])
    report(runs[True], runs[False])


def report(tracked: list[Run], untracked: list[Run]) -> None:
    """Print the result."""
    pairs = list(zip(tracked, untracked, strict=True))
    more = [on.seconds - off.seconds for on, off in pairs]
    say(f"tracking adds {median(more):.1f} s to {median(run.seconds for run in untracked):.1f} s")
    publish(
        "tracking_overhead",
        [on.seconds / off.seconds for on, off in pairs],
        at_most=TARGET,
        of="a search with a new SQLite database, compared with one without tracking",
        with_drain=spread([(on.seconds + on.drained_s) / off.seconds for on, off in pairs]),
        after_first_epoch=spread([after_start(on) / after_start(off) for on, off in pairs]),
        tracked_s=spread([run.seconds for run in tracked]),
        untracked_s=spread([run.seconds for run in untracked]),
        added_s=spread(more),
        added_to_start_s=spread([on.first_epoch_s - off.first_epoch_s for on, off in pairs]),
        added_cpu_s=spread([on.driver_cpu_s - off.driver_cpu_s for on, off in pairs]),
        drained_s=spread([run.drained_s for run in tracked]),
        trials=TRIALS,
        epochs=EPOCHS,
        slots=tracked[0].slots,
    )


def after_start(run: Run) -> float:
    """Return the seconds after the first epoch: without the starts of Ray and MLflow."""
    return run.seconds - run.first_epoch_s


def run_alone(
    folder: Path, settings: Mapping[str, object], *, tracked: bool, uri: str | None = None
) -> Run:
    """Run a search in a new process and a new home, and print how long it took.

    Args:
        folder: contains a home, `first`, with a full reference store.
        settings: of the search.
        tracked: whether the search is logged to MLflow.
        uri: address of MLflow; by default a database in the home.
    """
    home = folder / "home"
    shutil.copytree(folder / "first", home)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        run = pool.submit(_run, home, settings, tracked, uri).result()
    shutil.rmtree(home)
    cpu = f"{run.driver_cpu_s:.1f} s of CPU in the driver"
    say(f"tracking {'on' if tracked else 'off'}: {run.seconds:.1f} s, {cpu}")
    return run


def _run(home: Path, settings: Mapping[str, object], tracked: bool, uri: str | None) -> Run:
    if not tracked:
        # Ray imports MLflow if it is installed, for its usage statistics; this prevents it.
        sys.modules["mlflow"] = None  # type: ignore[assignment]
    return run_search(plan_in(home, settings, uri), tracked=tracked)


def require_same(runs: list[Run]) -> None:
    """Check that all runs had the same trials with the same numbers."""
    for run in runs:
        require_complete(run)
    if len({signature([numbers(row) for row in run.rows]) for run in runs}) > 1:
        raise RuntimeError("the searches had different trials: their times cannot be compared")


def numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a trial's row that does not depend on when and where it ran."""
    return {name: row[name] for name in row if name != "seconds" and "time/" not in name}


if __name__ == "__main__":
    main()
