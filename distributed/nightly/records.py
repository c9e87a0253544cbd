"""The record of a night: what is decided, measured and judged, as types and as JSON.

To resume a night and to judge later nights, nothing but records is needed.
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
    """A method with its hyperparameters, run for a number of epochs.

    Args:
        method: a key of `METHODS`.
        parameters: its hyperparameters; the field has the name of the key in the record's file.
        epochs: number of epochs.
        trial: where it was found, STUDY/NUMBER.
        trial_id: id of that trial; `None` if it is not known.
        since: date of the night on which it was first seen.
        version: version of its registered model; `None` if it has no alias (yet).
        judged: state of the verdict on it in the study it was found in, when it became champion;
            `None` if that study's verdict was about another trial.
    """

    method: str
    parameters: Mapping[str, Any]
    epochs: int
    trial: str
    trial_id: str | None = None
    since: str | None = None
    version: str | None = None
    judged: str | None = None

    @property
    def key(self) -> str:
        """Return eight hex digits that name the configuration, whichever study found it."""
        return signature([self.method, dict(self.parameters), self.epochs])

    @property
    def study(self) -> str:
        """Return the study in which it was found."""
        return self.trial.rpartition("/")[0]

    def as_json(self) -> Json:
        """Return it in the format of a record's file."""
        return {**asdict(self), "key": self.key}


@dataclass(frozen=True, kw_only=True)
class TrialCounts:
    """The trials of a study.

    Args:
        before: number of the first trial of this night.
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
        low, high: its interval, with 5 % on each side.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class CusumRecord:
    """The CUSUM of shifts.

    Args:
        level: in standard scores, at least 0.
        limit: level above which there is an alarm; `None`: there is no limit yet.
        nights: for how many nights the champion has been worse; 0 without an alarm.
    """

    level: float
    limit: float | None
    nights: int


@dataclass(frozen=True, kw_only=True)
class DuelRecord:
    """A candidate against the champion, in percentage points; positive is better.

    Args:
        mean: mean of the nights' mean paired differences.
        low, high: its bounds; `None` with one night.
        pairs: number of pairs in all nights.
        state: state of the duel.
        nights: number of nights of the duel, which are its observations.
    """

    mean: float
    low: float | None
    high: float | None
    pairs: int
    state: DuelState
    nights: int


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """The results of a night for one experiment; `None` or empty: not known yet.

    Args:
        name: name of the experiment.
        base: study of the experiment as written, before any renewal.
        start: configurations that the night's study starts with.
        generation: how many studies the search had before this one.
        study: study that is searched; known once the night has decided what it starts from.
        data: digest of the data set.
        recipe: signature of how references are trained.
        draw: number of the night's forget set.
        trials: counts of the study's trials.
        champion: configuration in use; `None`: there is none yet.
        references: distribution of the references' own gaps: mean, sd, n, values.
        seeds: numbers of the seeds of `gaps`; some may be left out.
        gaps: gaps of the champion, one per seed, in percentage points.
        metrics: distributions of the champion's metrics on `test`.
        best: the best trials of the search.
        candidate: the champion's opponent.
        rival_seeds, rival_gaps, rival_metrics: scores of the candidate, like those of the champion.
        reign: key of nights that can be compared: same champion, data, recipe and evaluation.
        shift, cusum, duel: what the verdict is based on.
        verdict: `None`: not judged.
        why: the verdict's reason, or the error that prevented one.
        promotion: whether the candidate becomes the champion: "due" until it is registered.
        promoted: what was done for the promotion, in a sentence.
        appointed: what was done to have a first champion, in a sentence; `None`: there was one.
        causes: known differences from the night before.
        notes: what did not go as planned.
        spent: seconds by activity.
        disk_bytes: size of the whole home at the night's end.
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
    seeds: Sequence[int] = field(default_factory=list)
    gaps: Sequence[float] = field(default_factory=list)
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    best: Sequence[Configuration] = field(default_factory=list)
    candidate: Configuration | None = None
    rival_seeds: Sequence[int] = field(default_factory=list)
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
    appointed: str | None = None
    causes: Sequence[str] = field(default_factory=list)
    notes: Sequence[str] = field(default_factory=list)
    spent: Mapping[str, float] = field(default_factory=dict)
    disk_bytes: int | None = None

    @property
    def complete(self) -> bool:
        """Return whether nothing is left to do tonight."""
        # A due promotion is work left: the same command resumes there.
        return self.verdict is not None and self.promotion != "due"

    @property
    def title_holder(self) -> Configuration | None:
        """Return the champion after this night: the candidate, if its promotion is due or done."""
        # Also while it is due: the duel has decided, even if MLflow is away for days.
        return self.champion if self.promotion == "none" else self.candidate

    @property
    def studies(self) -> Sequence[str]:
        """Return the studies it mentions."""
        # The champion's study may be one that the search has left; it must not be cleaned up.
        named = [each.study for each in (self.champion, self.candidate) if each]
        return [self.study, *named] if self.study else named

    def noted(self, line: str) -> "PartRecord":
        """Return it with one more note."""
        return replace(self, notes=[*self.notes, line])

    def with_spent(self, activity: str, seconds: float) -> "PartRecord":
        """Return it with seconds added to those spent on an activity."""
        spent = dict(self.spent)
        # Added: a resumed night spends time in several processes.
        spent[activity] = round(spent.get(activity, 0.0) + seconds, 3)
        return replace(self, spent=spent)


@dataclass(frozen=True, kw_only=True)
class NightRecord:
    """The record of a night.

    Args:
        plan: name of the nightly plan.
        date: date of the night.
        attempt: 1, plus one each time the night is forced.
        state: whether the night is running, done or failed.
        began, ended: local times, ISO 8601.
        seconds: time it took, without pauses between its processes.
        verdict: the most notable verdict of all experiments.
        error: why an experiment could not be run.
        margin: margin of the plan, in percentage points.
        environment: versions of code, packages and machine.
        experiments: one part per experiment.
        told: result of each notice.
        links: addresses of pages about this night, by name.
        schema: version of the record's format.
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
        """Return the part of an experiment; `None` if there is none."""
        return next((part for part in self.experiments if part.name == name), None)

    def with_part(self, part: PartRecord) -> "NightRecord":
        """Return it with a part in place of the one of the same name."""
        others = [each for each in self.experiments if each.name != part.name]
        return replace(self, experiments=[*others, part])

    def as_json(self) -> Json:
        """Return the content of its file: plain data, all keys, and each configuration's key."""
        plain: Json = _RECORD.dump_python(self, mode="json")
        for part, known in zip(self.experiments, plain["experiments"], strict=True):
            # With keys, for whoever reads the file; `from_json` drops and recomputes them.
            known["best"] = [each.as_json() for each in part.best]
            for name in ("champion", "candidate"):
                configuration: Configuration | None = getattr(part, name)
                known[name] = configuration and configuration.as_json()
        return plain

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "NightRecord":
        """Return the record in a file's content, of this schema or an earlier one.

        Raises:
            KeyError, TypeError, ValueError: it is not a record, or a newer version wrote it.
        """
        return _RECORD.validate_python(migrated(content))


_RECORD = TypeAdapter(NightRecord)
