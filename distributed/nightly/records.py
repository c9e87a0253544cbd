"""A plan of nights as a user writes it down, and the records that nights leave behind."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError

from distributed.experiment import (
    REMEDIES,
    Count,
    Experiment,
    Positive,
    Section,
    read_experiment,
)
from distributed.nightly.notices.delivery import Mail, Notices
from distributed.results import replacing
from distributed.settings import put, read_file
from mixunlearn.data.names import known_names
from mixunlearn.errors import CorruptError, InputError
from mixunlearn.signature import signature

SCHEMA = 2  # of a record; raise it with a step in `migrated`
RECORD = "night.json"
Record: TypeAlias = dict[str, Any]


class Budget(Section):
    """What a night may cost, for each experiment.

    Args:
        trials: how many a night adds to the search.
        hours: after which the search is stopped in order; what was measured is judged.
    """

    trials: Annotated[int, Field(ge=0)] = 8
    hours: Positive | None = None


class Nightly(Section):
    """What is done every night.

    Args:
        name: of the plan; its experiment in MLflow.
        experiments: files, relative to the plan's own.
        budget: what a night may cost.
        seeds: fresh ones a night, for champion and candidate alike.
        draws: forget sets in rotation, one a night, none of them the one that is searched on.
            Each has references of its own, trained when it is first needed.
        window: nights of history that a night is compared with.
        margin: of `gap/avg`, in percentage points: what matters.
        error: probability of a false alarm in 30 quiet nights, of all experiments together.
        time_zone: in which a night has its date.
        missed: whether nights that were missed are made up for.
        promote: whether a candidate that won takes the champion's place.
        keep: nights whose pages, models and checkpoints stay; numbers stay for ever.
        renew: trials of a study, after which the search begins another one with the best of it.
        tell: who is told.
    """

    name: Annotated[str, Field(max_length=60, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    experiments: Annotated[list[str], Field(min_length=1)]
    budget: Budget = Budget()
    seeds: Annotated[int, Field(ge=2)] = 5
    draws: Count = 3
    window: Annotated[int, Field(ge=5)] = 60
    margin: Positive = 1.0
    error: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    time_zone: str = "UTC"
    missed: Literal["skip", "catch_up"] = "skip"
    promote: bool = False
    keep: Count = 30
    renew: Count = 1000
    tell: Notices = Notices()

    @property
    def share(self) -> float:
        """Return the error of one test: each experiment has two, drift and duel."""
        return self.error / (2 * len(self.experiments))

    def today(self, now: datetime) -> date:
        """Return the date of a moment in the plan's time zone."""
        return now.astimezone(ZoneInfo(self.time_zone)).date()


def read_nightly(path: Path, settings: Sequence[str] = ()) -> tuple[Nightly, list[Experiment]]:
    """Return the plan of a YAML file, with `key=value` settings put over it, and its experiments.

    Raises:
        InputError: no such file, not YAML, or a key or value that means nothing.
    """
    content = read_file(path)
    put(content, settings)
    try:
        nightly = Nightly.model_validate(content)
    except ValidationError as error:
        raise _refused(error) from error
    try:
        ZoneInfo(nightly.time_zone)
    except (OSError, ValueError, KeyError) as error:
        remedy = "no such time zone; write one as Europe/Paris or UTC"
        raise InputError("time_zone", nightly.time_zone, remedy) from error
    experiments = [read_experiment(path.parent / name) for name in nightly.experiments]
    names = [experiment.name for experiment in experiments]
    if len(set(names)) < len(names):
        raise InputError("experiments", names, "two have one name: name each its own")
    return nightly, experiments


def _refused(error: ValidationError) -> InputError:
    """Return one thing pydantic found as one line of ours."""
    found = error.errors()[0]
    location = [str(part) for part in found["loc"]]
    key = ".".join(location)
    sections: Mapping[str, type[Section]] = {"budget": Budget, "tell": Notices, "tell.mail": Mail}
    if found["type"] == "extra_forbidden":
        fields = sections.get(".".join(location[:-1]), Nightly).model_fields
        return InputError(key, found["input"], f"unknown key; {known_names(location[-1], fields)}")
    if found["type"] == "missing":
        return InputError(key, None, "missing; experiments/nightly/ shows it")
    remedy = REMEDIES.get(found["type"], found["msg"]).format(**found.get("ctx", {}))
    return InputError(key, found["input"], remedy)


# --- records ---------------------------------------------------------------------------------


class Nights:
    """The nights of a plan: a folder each, named by its date, under the home.

    Args:
        home: where results are kept.
        name: of the plan.
    """

    def __init__(self, home: Path, name: str) -> None:
        self.folder = home / "nightly" / name

    def of(self, night: date) -> Path:
        """Return the folder of a night."""
        return self.folder / night.isoformat()

    def read(self, night: date) -> Record | None:
        """Return the record of a night; `None`: there is none.

        Raises:
            CorruptError: it cannot be read, or a newer version wrote it.
        """
        path = self.of(night) / RECORD
        if not path.exists():
            return None
        try:
            return migrated(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, KeyError) as error:
            remedy = "put it right, or remove it: the night is then made anew"
            raise CorruptError(f"{path} cannot be read ({error}); {remedy}") from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the record of a night, whole or not at all."""
        folder = self.of(date.fromisoformat(record["date"]))
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / RECORD) as temporary:
            temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")

    def before(self, night: date) -> list[Record]:
        """Return the records of earlier nights, oldest first."""
        dates = [found for found in self.dates() if found < night]
        return [record for found in dates if (record := self.read(found)) is not None]

    def dates(self) -> list[date]:
        """Return the dates of all nights, oldest first."""
        found = []
        for path in self.folder.glob(f"*/{RECORD}"):
            try:
                found.append(date.fromisoformat(path.parent.name))
            except ValueError:  # not a folder of ours
                continue
        return sorted(found)

    def missed(self, night: date, most: int) -> list[date]:
        """Return the dates between the last night and this one, at most so many, oldest first."""
        earlier = [found for found in self.dates() if found < night]
        if not earlier:
            return []
        days = (night - earlier[-1]).days
        return [night - timedelta(days=ago) for ago in range(min(days - 1, most), 0, -1)]


def migrated(record: Record) -> Record:
    """Return a record as this version writes it.

    Raises:
        ValueError: a newer version wrote it.
    """
    schema = record["schema"]
    if schema > SCHEMA:
        raise ValueError(f"schema {schema}, and this version knows up to {SCHEMA}")
    if schema == 1:  # a search had one study
        parts = [{**part, "generation": 0} for part in record["experiments"]]
        record = {**record, "schema": 2, "experiments": parts}
    return record


def of_experiment(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return what a night found of an experiment; empty if nothing."""
    found = (each for each in record["experiments"] if each["name"] == name)
    return next(found, {})


def key_of(method: str, parameters: Mapping[str, Any], epochs: int) -> str:
    """Return what names a configuration, wherever it was found."""
    return signature([method, dict(parameters), epochs])
