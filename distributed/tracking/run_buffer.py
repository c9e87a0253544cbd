"""The desired state of each MLflow run, and the part that is not sent yet. Never calls MLflow.

A record adds something to a run. A pending run is the sum of its records so far: a desired state,
not a list of calls. All that waits for a run is sent together; after a failure, the same state is
sent again.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from distributed.runtime.text import cut, redact
from distributed.tracking.names import allowed
from distributed.tracking.tags import (
    CUT,
    DROPPED,
    KEY,
    PARENT,
    REFERENCES,
    STEP,
    STUDY,
    TRIAL,
    USED_BY,
)
from mixunlearn.plain import finite

# Maximal lengths in MLflow, which refuses longer texts.
PARAM_LENGTH = 6000  # of a parameter's value
TAG_LENGTH = 8000  # of a tag's value
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]  # MLflow's names
RUNNING: Status = "RUNNING"
FINISHED: Status = "FINISHED"

Run = int | str | None  # a trial's number, a reference's key, or None for the study's parent run
Whole = Annotated[int, Field(ge=0, lt=2**63)]  # integers that a database can hold


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is added to a run at one time. Only plain values, because it may wait on disk.

    It names no file: a line on disk could name any file of this machine.
    """

    run: Run = None
    time_ms: Whole
    status: Status | None = None  # None: the run keeps the status that it has
    name: str = ""  # only in the record that starts or continues the run
    step: Whole | None = None  # step of the metrics; None: they are final
    metrics: dict[str, float | None] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    inputs: list[dict[str, str]] = field(default_factory=list)  # data sets, see `Tracker`


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file or folder for a run: an artifact, or a model if `model` names it.

    It waits in memory only. Whoever logged it does so again at the next command.
    """

    run: Run
    path: Path
    folder: str = ""  # where to put it in the run's artifacts
    model: str = ""  # name under which the model is registered
    tags: Mapping[str, str] = field(default_factory=dict)  # of the model


@dataclass(frozen=True, kw_only=True)
class Point:
    """One value of a metric; without a step it belongs to the last step of its run."""

    name: str
    value: float
    time_ms: int
    step: int | None


@dataclass(frozen=True, kw_only=True)
class RemoteRun:
    """What MLflow already has of a run."""

    run_id: str
    experiment_id: str
    deleted: bool  # whether somebody has put it into MLflow's trash
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


@dataclass(kw_only=True)
class PendingRun:
    """One run: its desired state, what MLflow has of it (`run_id`, `remote_*`), and what waits."""

    identity: Mapping[str, str]  # the tags by which the run is found again
    name: str = ""
    started_ms: int | None = None
    ended_ms: int | None = None
    run_id: str | None = None
    status: str | None = None  # the desired one
    remote_status: str | None = None
    remote_tags: Mapping[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)  # waiting
    params: dict[str, str] = field(default_factory=dict)  # waiting
    points: list[Point] = field(default_factory=list)  # waiting
    inputs: list[dict[str, str]] = field(default_factory=list)  # waiting
    uploads: list[Upload] = field(default_factory=list)  # waiting
    step: int = 0  # the last step of any metric
    failed: bool = False  # whether the last try to send it failed
    deleted: bool = False  # whether somebody has deleted it in MLflow: then nothing is sent
    _params_known: set[str] = field(default_factory=set)
    _named: dict[int, frozenset[str]] = field(default_factory=dict)  # step -> its metrics
    _last_value: dict[str, float] = field(default_factory=dict)
    _floor: int = -1  # steps up to here were delivered by an earlier process
    _whole: int = 0  # up to here, every step was added, or delivered before
    _time_ms: int = 0  # of the latest metrics
    _dropped: set[str] = field(default_factory=set)

    @property
    def waits(self) -> bool:
        """Whether anything is still to be sent."""
        parts = (self.tags, self.params, self.points, self.inputs, self.uploads)
        changes = any(parts) or self.status not in {None, self.remote_status}
        return changes and not self.deleted

    def start(self, name: str, params: Mapping[str, object], time_ms: int) -> None:
        """The run starts or continues, with `name` and `params`."""
        self.name = name
        self.started_ms = self.started_ms or time_ms
        self.add_params(params)

    def finish(self, status: str, time_ms: int) -> None:
        """The run ended with `status`, one of MLflow's."""
        self.status, self.ended_ms = status, time_ms

    def add_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags: redacted, and cut to MLflow's limit. An empty tag counts as none."""
        for name, value in tags.items():
            self.tags[allowed(name)] = cut(redact(str(value)), TAG_LENGTH)
        if self.run_id:
            self._leave_out_remote_tags()

    def add_params(self, params: Mapping[str, object]) -> None:
        """Add parameters that are new, because MLflow's cannot change; cut and list long ones."""
        long = []
        for name, value in params.items():
            if name not in self._params_known:
                text = redact(str(value))
                self.params[allowed(name)] = cut(text, PARAM_LENGTH)
                long += [name] if len(text) > PARAM_LENGTH else []
        self._params_known |= params.keys()
        if long:
            self.add_tags({CUT: ", ".join(sorted(long))})

    def add_metrics(self, metrics: Mapping[str, object], step: int | None, time_ms: int) -> None:
        """Add metrics of one step, or final ones (`step` None); list values that are not finite.

        A step that was added before is skipped: a trial that resumed from its last checkpoint
        reports it again. A final value that equals the last epoch's is skipped as well.
        """
        if step is None:  # MLflow takes the latest value of the last step for the run's value
            time_ms = max(time_ms, self._time_ms + 1)
        self._time_ms = time_ms
        latest = step is None or step >= self.step
        for given, value in metrics.items():
            name, number = allowed(given), finite(value)
            if number is None:
                self._drop(given, value)
            elif self._is_new(name, number, step):
                self.points.append(Point(name=name, value=number, time_ms=time_ms, step=step))
                if latest:
                    self._last_value[name] = number
        if step is not None:
            self._note_step(step, map(allowed, metrics))
        self.step = max(self.step, step or 0)

    def _is_new(self, name: str, value: float, step: int | None) -> bool:
        if step is None:
            return self._last_value.get(name) != value
        return step > self._floor and name not in self._named.get(step, ())

    def _note_step(self, step: int, names: Iterable[str]) -> None:
        # Steps may come out of order: a spool holds only what MLflow lacked at that time.
        self._named[step] = _shared(self._named.get(step, frozenset()).union(names))
        self._advance()

    def _advance(self) -> None:
        while self._whole + 1 in self._named:
            self._whole += 1

    def _drop(self, name: str, value: object) -> None:
        if value is not None and name not in self._dropped:
            self._dropped.add(name)
            self.add_tags({DROPPED: ", ".join(sorted(self._dropped))})

    def attach(self, remote: RemoteRun) -> str:
        """Take over a run that was created or found in MLflow; what it holds is not sent again.

        Returns:
            The run's id.
        """
        self.run_id, self.remote_status, self.remote_tags = (
            remote.run_id,
            remote.status,
            remote.tags,
        )
        self.deleted = remote.deleted
        # The tag goes last in a delivery, so all metrics up to its step are there.
        reached = remote.tags.get(STEP, "")
        self._floor = int(reached) if reached.isdecimal() else -1
        self._whole = max(self._whole, self._floor)
        self._advance()
        self.step = max(self.step, self._floor)
        self.params = {name: v for name, v in self.params.items() if name not in remote.params}
        self._leave_out_remote_tags()
        self._params_known |= remote.params.keys()
        self.points = [point for point in self.points if not self._holds(remote, point)]
        # Values added meanwhile are newer than those in MLflow.
        self._last_value = {**remote.metrics, **self._last_value}
        if KEY in self.identity and remote.status == FINISHED:
            # A reference is logged only once; after that, only tags of studies are added.
            self.points, self.params = [], {}
            self.tags = {name: v for name, v in self.tags.items() if name.startswith(USED_BY)}
        # Somebody may have removed the tags by which the next process finds the run.
        self.add_tags(self.identity)
        return remote.run_id

    def link(self, parent: str) -> None:
        """Make the run a child of another one, if it is a trial."""
        if TRIAL in self.identity:
            self.add_tags({PARENT: parent})

    def _leave_out_remote_tags(self) -> None:
        remote = self.remote_tags
        self.tags = {name: v for name, v in self.tags.items() if remote.get(name, "") != v}

    def _holds(self, remote: RemoteRun, point: Point) -> bool:
        if point.step is None:
            return remote.metrics.get(point.name) == point.value
        return point.step <= self._floor

    def batch(self) -> tuple[list[Point], dict[str, str], dict[str, str]]:
        """Return the waiting metrics, parameters and tags; a tag tells the last complete step.

        Complete means that no earlier step is lacking: a run may have been made again after its
        first steps went to a database that was lost.
        """
        epochs = any(point.step is not None for point in self.points)
        reached = {STEP: str(self._whole)} if epochs and self._whole else {}
        return list(self.points), dict(self.params), {**self.tags, **reached}

    def step_of(self, point: Point) -> int:
        """Return the step of a point; a final value belongs to the last step."""
        return self.step if point.step is None else point.step

    def batch_sent(self) -> None:
        """Mark what `batch` returned as sent: MLflow has it, or refused it permanently."""
        self.remote_tags = {**self.remote_tags, **self.tags}
        self.points, self.params, self.tags = [], {}, {}


class RunBuffer:
    """All pending runs of a study: the parent, its trials and the references it uses."""

    def __init__(self, study: str) -> None:
        self.parent = PendingRun(identity={STUDY: study}, name=study)
        self.trials: dict[int, PendingRun] = {}
        self.references: dict[str, PendingRun] = {}
        self._study = study
        self._linked: dict[str, str] = {}

    def apply(self, record: Record) -> None:
        """Add a record to the pending run that it belongs to."""
        pending = self.pending(record.run)
        if pending.deleted:
            return
        if record.name:
            pending.start(record.name, record.params, record.time_ms)
        pending.add_metrics(record.metrics, record.step, record.time_ms)
        pending.add_tags(record.tags)
        if record.status == RUNNING:
            pending.status = RUNNING
        elif record.status is not None:
            pending.finish(record.status, record.time_ms)
        pending.inputs += record.inputs

    def add_upload(self, upload: Upload) -> None:
        """Add a file or folder to the pending run that it belongs to."""
        pending = self.pending(upload.run)
        if not pending.deleted:
            pending.uploads.append(upload)

    def pending(self, run: Run) -> PendingRun:
        """Return a pending run; it is created if needed."""
        if run is None:
            return self.parent
        return self.trial(run) if isinstance(run, int) else self.reference(run)

    def trial(self, number: int) -> PendingRun:
        """Return the pending run of a trial; it is created if needed."""
        identity = {STUDY: self._study, TRIAL: str(number)}
        return self.trials.setdefault(number, PendingRun(identity=identity, name=f"trial-{number}"))

    def reference(self, key: str) -> PendingRun:
        """Return the pending run of an original or reference; it is created if needed."""
        return self.references.setdefault(key, PendingRun(identity={KEY: key}, name=key))

    def waiting(self) -> Iterator[PendingRun]:
        """Yield the pending runs that have something to send.

        The parent comes after its children, so that it ends last. Runs that failed last time come
        after all others, which must not wait for them.
        """
        self._link_parent()
        children = [d for d in (*self.references.values(), *self.trials.values()) if d.waits]
        fine = [pending for pending in children if not pending.failed]
        failed = [pending for pending in children if pending.failed]
        yield from fine
        # Only now, because the references above have got their ids meanwhile.
        self.link_references()
        yield from [self.parent] if self.parent.waits else []
        yield from failed

    def run_ids(self) -> dict[int, str]:
        """Return the ids of the trials' runs, by trial; only of those that MLflow has."""
        return {number: pending.run_id for number, pending in self.trials.items() if pending.run_id}

    def with_uploads(self) -> set[Run]:
        """Return the runs for which files or folders wait."""
        waiting = (pending for pending in self._all() if pending.waits)
        return {upload.run for pending in waiting for upload in pending.uploads}

    def deleted(self) -> list[str]:
        """Return the names of the runs that somebody has deleted in MLflow."""
        return [pending.name for pending in self._all() if pending.deleted]

    def _all(self) -> list[PendingRun]:
        return [self.parent, *self.references.values(), *self.trials.values()]

    def _link_parent(self) -> None:
        """Tag all references with the run of the study, which uses them."""
        if self.parent.run_id:
            # MLflow allows no other characters in a tag's name.
            name = USED_BY + re.sub(r"[^\w.-]", "_", self._study)
            for pending in self.references.values():
                pending.add_tags({name: self.parent.run_id})

    def link_references(self) -> None:
        """Tag the parent with the runs of all references, also those of an earlier sweep."""
        runs = {key: pending.run_id for key, pending in self.references.items() if pending.run_id}
        if runs.items() <= self._linked.items():
            return
        self._linked = {**_linked_before(self.parent.remote_tags), **self._linked, **runs}
        self.parent.add_tags({REFERENCES: _fitting(dict(self._linked))})


@lru_cache(maxsize=1024)
def _shared(names: frozenset[str]) -> frozenset[str]:
    """Return an equal set, the same one for all steps: there are many steps and few sets."""
    return names


def _linked_before(tags: Mapping[str, str]) -> dict[str, str]:
    try:
        return dict(json.loads(tags.get(REFERENCES, "{}")))
    except (ValueError, TypeError):  # somebody has edited the tag
        return {}


def _fitting(runs: dict[str, str]) -> str:
    """Return `runs` as JSON, without the oldest ones if it is too long for a tag."""
    while len(text := json.dumps(runs)) > TAG_LENGTH:
        # Cut as a whole entry: half of the JSON could not be read again.
        runs.pop(next(iter(runs)))
    return text
