"""A nightly plan as a user writes it."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError

from distributed.config.errors import all_translated, translated
from distributed.config.experiment import Experiment
from distributed.config.notices import Mail, Notices
from distributed.config.presets import named_file
from distributed.config.read import read_experiment
from distributed.config.section import YEAR_HOURS, Positive, Section, Trials, up_to
from distributed.config.yaml_file import put, read_file
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError

MANY_NIGHTS = 36_500


class Budget(Section):
    """What a night may cost, for each experiment.

    Args:
        trials: how many a night adds to the search.
        hours: time limit, after which the search stops gracefully; the results so far are judged.
    """

    trials: Annotated[int, Field(ge=0), up_to(1_000_000, "no night has time for more")] = 8
    hours: Annotated[Positive, up_to(YEAR_HOURS, "that is a year")] | None = None


class Nightly(Section):
    """What is done every night.

    Args:
        name: name of the plan; also of its experiment in MLflow.
        experiments: experiment files, relative to the plan's file.
        budget: what a night may cost.
        seeds: number of fresh seeds per night, the same for champion and candidate.
        draws: number of forget sets in rotation, one per night; the search uses none of them.
            Each has references of its own, trained when they are first needed.
        window: number of earlier nights that a night is compared with.
        margin: the change of `gap/avg` that matters, in percentage points.
        error: probability of a false alarm in 30 quiet nights, of all experiments together.
        time_zone: time zone of a night's date.
        missed: whether nights that were missed are run first.
        promote: whether a candidate that won becomes the champion.
        keep: number of nights whose pages, models and checkpoints are kept; numbers always are.
        renew: number of trials after which the search starts a new study from the best of the old.
        tell: who is notified.
    """

    name: Annotated[str, Field(max_length=60, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    experiments: Annotated[list[str], Field(min_length=1)]
    budget: Budget = Budget()
    seeds: Annotated[int, Field(ge=2), up_to(1000, "each one is a model to train")] = 5
    draws: Annotated[int, Field(ge=1), up_to(1000, "each one has references to train")] = 3
    window: Annotated[int, Field(ge=5), up_to(MANY_NIGHTS, "that is a century")] = 60
    margin: Positive = 1.0
    error: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    time_zone: str = "UTC"
    missed: Literal["skip", "catch_up"] = "skip"
    promote: bool = False
    keep: Annotated[int, Field(ge=1), up_to(MANY_NIGHTS, "that is a century")] = 30
    renew: Trials = 1000
    tell: Notices = Notices()

    @property
    def share(self) -> float:
        """Return the error of one test: each experiment has two, drift and duel."""
        return self.error / (2 * len(self.experiments))

    def draw(self, night: date) -> int:
        """Return the number of a night's forget set."""
        # From the date alone: a night that is missed or repeated does not shift the rotation.
        return night.toordinal() % self.draws

    def today(self, now: datetime) -> date:
        """Return the date of a moment in the plan's time zone."""
        return now.astimezone(ZoneInfo(self.time_zone)).date()


SECTIONS: Mapping[str, type[Section]] = {
    "": Nightly,
    "budget": Budget,
    "tell": Notices,
    "tell.mail": Mail,
}


def read_nightly(path: Path, settings: Sequence[str] = ()) -> tuple[Nightly, list[Experiment]]:
    """Return the plan in a YAML file, overridden by `key=value` settings, and its experiments.

    Raises:
        InputError: no such file, not YAML, or an unknown key or impossible value.
    """
    path = named_file(path)
    content = read_file(path, "PLAN")
    put(content, settings)
    try:
        nightly = Nightly.model_validate(content)
    except ValidationError as error:
        example = "a preset shows it: mixunlearn init nightly/mnist"
        translate = partial(translated, unknown=_unknown, missing=example)
        raise all_translated(error, translate) from error
    _check_time_zone(nightly.time_zone)
    # Without the settings: those are keys of the plan.
    experiments = [_watched(read_experiment(path.parent / name)) for name in nightly.experiments]
    names = [experiment.name for experiment in experiments]
    # A record keeps its parts by the experiment's name.
    if len(set(names)) < len(names):
        raise InputError("experiments", names, "two have the same name; give each its own")
    return nightly, experiments


def _watched(experiment: Experiment) -> Experiment:
    """Return an experiment for nights: they compare the champion with itself, from one original."""
    if experiment.references.originals is not None:
        return experiment
    references = experiment.references.model_copy(update={"originals": 1})
    return experiment.model_copy(update={"references": references})


def _check_time_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    # KeyError: no such zone. ValueError: an absolute path, or one with `..`.
    except (OSError, ValueError, KeyError) as error:
        remedy = "no such time zone; write one as Europe/Paris or UTC"
        raise InputError("time_zone", name, remedy) from error


def _unknown(place: Sequence[str]) -> str:
    """Return the remedy for a key that a plan does not have."""
    *outer, last = place
    fields = SECTIONS.get(".".join(outer), Nightly).model_fields
    return f"unknown key; {known_names(last, fields)}"
