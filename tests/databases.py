"""A new MLflow database: made by MLflow once per process, then copied.

MLflow makes it by fifty migrations, which take more than a second of a processor, and the tests and
drills need dozens of databases.
"""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from distributed.tracking.locations import settle
from distributed.tracking.server import make_database
from mixunlearn.atomic import claim

__all__ = ["Copies", "make_database"]


class Copies:
    """Does what `make_database` does, by copying a database that was never used.

    Args:
        folder: where that database is, or will be made.
    """

    def __init__(self, folder: Path) -> None:
        self.original = folder / "mlflow.db"

    def prepare(self) -> None:
        """Make the database that will be copied."""
        if not self.original.exists():
            make_database(self.original, None)

    def __call__(self, path: Path, artifacts: str | None) -> None:
        """Make a database; the arguments are those of `make_database`."""
        self.prepare()
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
            copy = Path(shutil.copy(self.original, folder))
            with closing(sqlite3.connect(copy)) as database, database:
                # The only row: MLflow's default experiment.
                root = f"{artifacts or path.parent}/0"
                database.execute("UPDATE experiments SET artifact_location = ?", [root])
            settle(copy, path.parent)
            claim(copy, path)
