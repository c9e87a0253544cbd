"""All drills: name, function, number of runs."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.drills import (
    cluster,
    database,
    disk,
    drivers,
    hostile,
    requests,
    storage,
    torn,
    tracking,
    workers,
)
from tests.drills.ground import Drill


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A drill.

    Args:
        title: its row in the table.
        drill: the function.
        runs: number of runs for the table.
    """

    title: str
    drill: Drill
    runs: int


DRILLS: Mapping[str, Entry] = {
    "kill-driver": Entry(
        title="kill -9 the driver at a random moment (also twice, at start-up, while testing)",
        drill=drivers.kill,
        runs=20,
    ),
    "stop-driver": Entry(title="SIGINT or SIGTERM, once or twice", drill=drivers.stop, runs=4),
    "two-drivers": Entry(title="two drivers at once on one study", drill=drivers.two, runs=10),
    "kill-worker": Entry(
        title="kill -9 four workers (24 in all), in a step or in a checkpoint",
        drill=workers.kill,
        runs=6,
    ),
    "failing-trials": Entry(
        title="trials that raise, return NaN, return Inf, hang, exceed memory (one of each a run)",
        drill=workers.fail,
        runs=10,
    ),
    "torn-files": Entry(
        title="newest checkpoint, trials.parquet, store entry truncated or a bit flipped",
        drill=torn.tear,
        runs=20,
    ),
    "lost-node": Entry(
        title="two-node cluster: kill -9 a raylet; a node stops and joins again",
        drill=cluster.lose,
        runs=10,
    ),
    "mlflow-outage": Entry(
        title="MLflow server killed and back 20 s later, answering 500, hanging",
        drill=tracking.outage,
        runs=10,
    ),
    "postgresql-restart": Entry(
        title="PostgreSQL restarted during the study", drill=database.restart, runs=5
    ),
    "full-disk": Entry(
        title="disk full under checkpoints, Parquet and SQLite, or the home",
        drill=disk.fill,
        runs=10,
    ),
    "storage-away": Entry(
        title="storage of files, or checkpoints, away or read-only for 20 s",
        drill=storage.away,
        runs=10,
    ),
    "checkpoints-deleted": Entry(
        title="checkpoints deleted while trials run", drill=storage.delete, runs=10
    ),
    "home-moved": Entry(
        title="home moved or copied while the sweep is stopped", drill=storage.move, runs=10
    ),
    "lock-removed": Entry(
        title="lock file removed, then a second driver", drill=storage.unlock, runs=10
    ),
    "requests": Entry(
        title="ten deletion requests in sequence: eight kills at fixed moments, SIGTERM, "
        "two commands at once (all in each run)",
        drill=requests.interrupt,
        runs=3,
    ),
    "hostile-input": Entry(
        title="hostile checkpoint, Parquet, YAML, names", drill=hostile.attack, runs=5
    ),
}
