"""The nights of a plan on disk: one folder per night, named by its date."""

import json
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

from distributed.nightly.records import Configuration, NightRecord
from distributed.runtime.text import one_line
from mixunlearn.atomic import replacing
from mixunlearn.errors import CorruptError

NIGHT_FILE = "night.json"
# What a damaged record raises; RecursionError: lists in lists, thousands deep.
DAMAGES = (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


class Nights:
    """The nights of a plan, under the home.

    Args:
        home: where results are kept.
        name: name of the plan.
    """

    def __init__(self, home: Path, name: str) -> None:
        self.folder = home / "nightly" / name

    def of(self, night: date) -> Path:
        """Return the folder of a night."""
        return self.folder / night.isoformat()

    def read(self, night: date) -> NightRecord | None:
        """Return the record of a night; `None`: there is none.

        Raises:
            CorruptError: it cannot be read, or a newer version wrote it.
        """
        path = self.of(night) / NIGHT_FILE
        if not path.exists():
            return None
        try:
            record = NightRecord.from_json(json.loads(path.read_text(), parse_constant=_refused))
            if record.date != night:
                raise ValueError(f"it is the record of {record.date}")
            return record
        except DAMAGES as error:
            remedy = "fix it, or remove it: the night is then run again"
            raise CorruptError(f"{path} cannot be read ({one_line(error)}); {remedy}") from error

    def write(self, record: NightRecord) -> None:
        """Write the record of a night atomically."""
        folder = self.of(record.date)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / NIGHT_FILE) as temporary:
            # NaN is not JSON: better an error now than a record that others cannot read.
            temporary.write_text(json.dumps(record.as_json(), indent=1, allow_nan=False) + "\n")

    def before(self, night: date) -> list[NightRecord]:
        """Return the records of earlier nights, oldest first."""
        dates = [found for found in self.dates() if found < night]
        return [record for found in dates if (record := self.read(found)) is not None]

    def dates(self) -> list[date]:
        """Return the dates of all nights, oldest first."""
        found = []
        # A folder without a record is no night: a killed driver left it before it decided anything.
        for path in self.folder.glob(f"*/{NIGHT_FILE}"):
            try:
                found.append(date.fromisoformat(path.parent.name))
            except ValueError:  # not a folder of ours
                continue
        return sorted(found)

    def missed(self, night: date, most: int) -> list[date]:
        """Return the dates between the last night and this one, oldest first; at most `most`."""
        earlier = [found for found in self.dates() if found < night]
        if not earlier:
            return []
        days = (night - earlier[-1]).days
        # Older nights would be outside the window of every later verdict.
        return [night - timedelta(days=ago) for ago in range(min(days - 1, most), 0, -1)]


def plans_of(home: Path) -> list[Nights]:
    """Return the nightly plans of a home, by name."""
    folders = sorted(path for path in (home / "nightly").glob("*") if path.is_dir())
    return [Nights(home, path.name) for path in folders]


def champions(home: Path) -> list[Configuration]:
    """Return the configurations in use: the champions after the last night of each plan.

    A plan with a night that cannot be read has none.
    """
    found = list[Configuration]()
    for plan in plans_of(home):
        with suppress(CorruptError):
            last = [plan.read(night) for night in plan.dates()[-1:]]
            parts = [part for record in last if record for part in record.experiments]
            found += [part.title_holder for part in parts if part.title_holder]
    return found


def _refused(constant: str) -> None:
    """Refuse NaN and Infinity, which Python would read and `--json` could not write."""
    raise ValueError(f"{constant} is not JSON")
