"""What old nights leave: their numbers for ever, their models and pages for a while."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from distributed.nights import Nightly, Nights, Record
from report.nightly_page import MARKDOWN, PAGE

LARGE = ("checkpoints", "models", "model")  # of a study: what goes on another time starts anew


def prune(nights: Nights, nightly: Nightly, home: Path) -> None:
    """Remove the pages of old nights, and the checkpoints and models of studies left behind.

    Args:
        nights: the records, which all stay.
        nightly: how many nights are kept whole.
        home: where results are kept.
    """
    dates = nights.dates()
    old, kept = dates[: -nightly.keep], dates[-nightly.keep :]
    for night in old:
        for name in (PAGE, MARKDOWN):
            (nights.of(night) / name).unlink(missing_ok=True)
    living = set(_studies(nights.read(night) for night in kept))
    for study in set(_studies(nights.read(night) for night in old)) - living:
        for name in LARGE:
            shutil.rmtree(home / "studies" / study / name, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _studies(records: Iterable[Record | None]) -> Iterator[str]:
    for record in records:
        for part in record["experiments"] if record else ():
            if part.get("study"):
                yield part["study"]
            for who in ("champion", "candidate"):
                if part.get(who):
                    yield part[who]["trial"].rpartition("/")[0]
