"""The record of a night: what is decided, measured and judged, as types and as JSON.

A night is resumed, and later nights are judged, from records alone.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter

from distributed.nightly.migration import SCHEMA, migrated
from mixunlearn.metrics.nights import State as DuelState
from mixunlearn.metrics.nights import Word
from mixunlearn.signature import signature

Json: TypeAlias = dict[str, Any]
NightState: TypeAlias = Literal["running", "done", "failed"]
Promotion: TypeAlias = Literal["none", "due", "done"]


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What unlearns: a method with its hyperparameters, for a number of epochs.

    Args:
        method: a key of `METHODS`.
        parameters: its hyperparameters, by the name that the record's file has.
        epochs: how long.
        trial: where it was found, STUDY/NUMBER.
        trial_id: of that trial; `None` if it is not known.
        since: date of the night on which it was first seen.
        version: of its registered model; `None` if it has no alias (yet).
    """

    method: str
    parameters: Mapping[str, Any]
    epochs: int
    trial: str
    trial_id: str | None = None
    since: str | None = None
    version: str | None = None

    @property
    def key(self) -> str:
        """Return eight hex digits that name the configuration, wherever it was found."""
        return signature([self.method, dict(self.parameters), self.epochs])

    @property
    def study(self) -> str:
        """Return the study in which it was found."""
        return self.trial.rpartition("/")[0]

    def as_json(self) -> Json:
        """Return it as a record's file has it."""
        return {**asdict(self), "key": self.key}


@dataclass(frozen=True, kw_only=True)
class TrialCounts:
    """The trials of a study.

    Args:
        before: number of the first one of this night.
        ran: how many ran this night.
        failed: how many of those failed.
    """

    before: int
    ran: int = 0
    failed: int = 0


@dataclass(frozen=True, kw_only=True)
class ShiftRecord:
    """The champion's gap against its prediction, in percentage points; positive is worse.

    Args:
        mean: the shift.
        low, high: its interval, 5 % to each side.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class CusumRecord:
    """The CUSUM of shifts.

    Args:
        level: in standard scores, at least 0.
        limit: beyond which is an alarm; `None`: there is none yet.
        nights: for how many nights the champion has been worse; 0 without an alarm.
    """

    level: float
    limit: float | None
    nights: int


@dataclass(frozen=True, kw_only=True)
class DuelRecord:
    """A candidate against the champion, in percentage points; positive is better.

    Args:
        mean: of the paired differences.
        low, high: its bounds; `None` with one pair.
        pairs: how many.
        state: how the duel stands.
        nights: over how many nights.
    """

    mean: float
    low: float | None
    high: float | None
    pairs: int
    state: DuelState
    nights: int


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """What a night found of one experiment; `None` and empty: not known yet.

    Args:
        name: of the experiment.
        base: study of the experiment as written, before any renewal.
        start: configurations that the night's study starts with.
        generation: how many studies the search had before this one.
        study: that is searched; known once the night has decided what it starts from.
        data: digest of the data set.
        recipe: signature of how references are trained.
        draw: number of the night's forget set.
        trials: of the study.
        champion: what is in use; `None`: nothing yet.
        references: distribution of the references' own gaps: mean, sd, n, values.
        gaps: of the champion, one a seed, in percentage points.
        metrics: distributions of what the champion scored on `test`.
        best: the best trials of the search.
        candidate: the champion's opponent.
        rival_gaps, rival_metrics: what the candidate scored, as `gaps` and `metrics`.
        reign: nights of one reign are compared: one champion, data, recipe and evaluation.
        shift, cusum, duel: what the verdict follows from.
        verdict: `None`: not judged.
        why: the verdict's reason, or the error that prevented one.
        promotion: whether the candidate gets the champion's place: "due" until it is registered.
        promoted: what was done for that, in a sentence.
        causes: known differences from the night before.
        notes: what went otherwise than planned.
        spent: seconds by activity.
        disk_bytes: of the whole home, at the night's end.
    """

    name: str
    base: str | None = None
    start: Sequence[Mapping[str, Any]] = field(default_factory=list)
    generation: int = 0
    study: str | None = None
    data: str | None = None
    recipe: str | None = None
    draw: int | None = None
    trials: TrialCounts | None = None
    champion: Configuration | None = None
    references: Mapping[str, Any] = field(default_factory=dict)
    gaps: Sequence[float] = field(default_factory=list)
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    best: Sequence[Configuration] = field(default_factory=list)
    candidate: Configuration | None = None
    rival_gaps: Sequence[float] = field(default_factory=list)
    rival_metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reign: str | None = None
    shift: ShiftRecord | None = None
    cusum: CusumRecord | None = None
    duel: DuelRecord | None = None
    verdict: Word | None = None
    why: str | None = None
    promotion: Promotion = "none"
    promoted: str | None = None
    causes: Sequence[str] = field(default_factory=list)
    notes: Sequence[str] = field(default_factory=list)
    spent: Mapping[str, float] = field(default_factory=dict)
    disk_bytes: int | None = None

    @property
    def complete(self) -> bool:
        """Return whether nothing is left to do tonight."""
        return self.verdict is not None and self.promotion != "due"

    @property
    def title_holder(self) -> Configuration | None:
        """Return who is champion after this night: the candidate, if it won its place."""
        return self.champion if self.promotion == "none" else self.candidate

    @property
    def studies(self) -> Sequence[str]:
        """Return the studies it mentions."""
        named = [each.study for each in (self.champion, self.candidate) if each]
        return [self.study, *named] if self.study else named

    def noted(self, line: str) -> "PartRecord":
        """Return it with one more note."""
        return replace(self, notes=[*self.notes, line])

    def with_spent(self, activity: str, seconds: float) -> "PartRecord":
        """Return it with so many more seconds spent on an activity."""
        spent = dict(self.spent)
        spent[activity] = round(spent.get(activity, 0.0) + seconds, 3)
        return replace(self, spent=spent)


@dataclass(frozen=True, kw_only=True)
class NightRecord:
    """What a night found.

    Args:
        plan: name of the nightly plan.
        date: of the night.
        attempt: 1, and one more each time the night is forced.
        state: where the night stands.
        began, ended: local times, ISO 8601.
        seconds: that it took, without pauses between its processes.
        verdict: the most notable one of all experiments.
        error: why an experiment could not be run.
        margin: of the plan, in percentage points.
        environment: versions of code, packages and machine.
        experiments: a part each.
        told: what came of each notice.
        links: addresses of pages on this night, by name.
        schema: of the record.
    """

    plan: str
    date: datetime.date
    attempt: int = 1
    state: NightState = "running"
    began: str | None = None
    ended: str | None = None
    seconds: float = 0.0
    verdict: Word | None = None
    error: str | None = None
    margin: float | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    experiments: Sequence[PartRecord] = field(default_factory=list)
    told: Sequence[str] = field(default_factory=list)
    links: Mapping[str, str | None] = field(default_factory=dict)
    schema: int = SCHEMA

    def part(self, name: str) -> PartRecord | None:
        """Return what the night found of an experiment; `None` if nothing."""
        return next((part for part in self.experiments if part.name == name), None)

    def with_part(self, part: PartRecord) -> "NightRecord":
        """Return it with a part in place of the one of the same name."""
        others = [each for each in self.experiments if each.name != part.name]
        return replace(self, experiments=[*others, part])

    def as_json(self) -> Json:
        """Return it as its file has it: plain data, all keys, and each configuration's key."""
        plain: Json = _RECORD.dump_python(self, mode="json")
        for part, known in zip(self.experiments, plain["experiments"], strict=True):
            known["best"] = [each.as_json() for each in part.best]
            for name in ("champion", "candidate"):
                configuration: Configuration | None = getattr(part, name)
                known[name] = configuration and configuration.as_json()
        return plain

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "NightRecord":
        """Return the record in a file's content, of this schema or an earlier one.

        Raises:
            KeyError, TypeError, ValueError: it is no such record, or a newer version wrote it.
        """
        return _RECORD.validate_python(migrated(content))


_RECORD = TypeAdapter(NightRecord)
