"""The cost of logging for a sweep's driver, and whether MLflow's writer keeps up: seconds of calls.

64 trials each log 20 metrics a second, evenly spread over the second, from one event loop: far more
than real trials do. The server is MLflow's own, on this machine, with a new database. At the end,
every value is read from MLflow; if one is missing, there is no result.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from mlflow import MlflowClient

from benchmarks import publish, say, spread
from distributed.runtime.addresses import embedded
from distributed.serve import pages as ui
from distributed.tracking.tracker import Tracker

TARGET = 0.01
TRIALS = 64
METRICS = 20
SECONDS = 20
PATIENCE_S = 300.0
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Load:
    """The measured load.

    Args:
        calls_s: seconds of each call.
        offered_s: seconds from the first call to the last one.
        drained_s: seconds after that until MLflow had everything.
        memory: maximum growth of this process, in bytes.
    """

    calls_s: list[float]
    offered_s: float
    drained_s: float
    memory: int


def main() -> None:
    """Measure and print the result."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        load = run(server.link, Path(folder) / "spool")
        kept = stored(server.link)
    offered = TRIALS * METRICS * SECONDS
    if kept != offered:
        raise RuntimeError(f"MLflow holds {kept} of {offered} values")
    report(load, offered)


def report(load: Load, offered: int) -> None:
    """Print the result."""
    microseconds = [1e6 * seconds for seconds in load.calls_s]
    say(f"{offered} values in {load.offered_s:.1f} s; delivered {load.drained_s:.1f} s later")
    publish(
        "writer_throughput",
        [sum(load.calls_s) / load.offered_s],
        at_most=TARGET,
        of="seconds per second that the driver spends in calls",
        call_us=spread(microseconds),
        values=offered,
        values_per_s=round((offered - METRICS) / load.offered_s, 1),
        lost=0,
        offered_s=round(load.offered_s, 2),
        drained_s=round(load.drained_s, 2),
        memory_mib=round(load.memory / MIB, 1),
        trials=TRIALS,
        metrics=METRICS,
    )


@contextmanager
def serving(home: Path) -> Iterator[ui.Server]:
    """Run an MLflow server with a new database that contains one study."""
    uri, artifacts = embedded(home)
    tracker = Tracker(
        uri=uri,
        artifact_location=artifacts,
        experiment="first",
        study="first",
        spool=home / "first.spool",
        say=say,
    )
    tracker.start_study("first", {}, {}, "")
    require_delivered(tracker)
    with ui.server(home, uri, None, None) as server:
        yield server


def run(uri: str, spool: Path) -> Load:
    """Log from all trials at a steady pace."""
    tracker = Tracker(
        uri=uri, artifact_location=None, experiment="load", study="load", spool=spool, say=say
    )
    tracker.start_study("load", {}, {}, "")
    for trial in range(TRIALS):
        tracker.start_trial(trial, f"trial {trial}", {"lr": 1e-3}, {})
    tracker.run_ids(PATIENCE_S)  # not measured: a sweep's trials do not all start at once
    process = psutil.Process()
    before = process.memory_info().rss
    calls, start, memory = list[float](), time.perf_counter(), [before]
    for number in range(TRIALS * SECONDS):
        step, trial = divmod(number, TRIALS)
        metrics = {f"group/metric_{name}": number + name / 7 for name in range(METRICS)}
        time.sleep(max(0.0, start + number / TRIALS - time.perf_counter()))
        began = time.perf_counter()
        tracker.log_epoch(trial, step + 1, metrics)
        calls.append(time.perf_counter() - began)
        memory.append(process.memory_info().rss)
    end = time.perf_counter()
    require_delivered(tracker)
    drained = time.perf_counter() - end
    memory.append(process.memory_info().rss)
    return Load(
        calls_s=calls, offered_s=end - start, drained_s=drained, memory=max(memory) - before
    )


def require_delivered(tracker: Tracker) -> None:
    """Wait until MLflow has everything."""
    if problems := tracker.close(PATIENCE_S):
        raise RuntimeError(problems[0])


def stored(uri: str) -> int:
    """Return the number of values in MLflow: each step of each metric of each trial, once."""
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = (each for each in client.search_experiments() if each.name == "load")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    steps = [
        {metric.step for metric in client.get_metric_history(run.info.run_id, name)}
        for run in runs
        for name in run.data.metrics
    ]
    return sum(map(len, steps))


if __name__ == "__main__":
    main()
