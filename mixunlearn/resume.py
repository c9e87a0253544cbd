"""How a trial continues after an interruption: one state machine for all that take part in it.

    proposed ──start──▶ running ──end──▶ complete | pruned | failed
        ▲                │   ▲                               │
        │                │   └── epoch: a new one, or one again
        ├───── lost ─────┘                                   │
        └──────────────────── retry ─────────────────────────┘

The record of the study is the only memory. It is written before anything follows from it: a
proposal before its worker starts, an epoch before MLflow is told of it, an end before the next
proposal. A process that is killed leaves the beginning of the story, never a wrong one. When the
study is opened again, each participant continues from the record:

- The record (`distributed/study/study.py`): trials that are proposed or running come first, by
  number, with their old seed. An end that has its row but not its state gets its state.
- The worker (`trainables/unlearn.py`) loads the newest whole checkpoint of the same configuration
  and reports its epoch again: whether to continue after it may not have been decided.
- The scheduler (`distributed/search/scheduler.py`) is told all recorded epochs once. An epoch that
  is reported again gets the decision of the first time.
- The sampler (`distributed/study/sampling.py`) is told all recorded ends. CMA-ES, whose state
  depends on the order of events, proposes the same trials again in that order.
- MLflow (`distributed/search/trial_callback.py`) is told everything again. What a run has already
  is not sent twice.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

FAILURE = "failure"  # key of a result: why the trial failed


class State(Enum):
    """The states of a trial; the last three are those of `trials.parquet`."""

    PROPOSED = "proposed"
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of the trial, unless it is retried."""
        return self in {State.COMPLETE, State.PRUNED, State.FAILED}


class Event(Enum):
    """What changes the state of a trial."""

    START = "start"
    EPOCH = "epoch"
    COMPLETE = "complete"
    PRUNE = "prune"
    FAIL = "fail"
    LOSE = "lose"  # its worker or the whole process died
    RETRY = "retry"  # asked for by the user


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.PROPOSED, Event.START): State.RUNNING,
    (State.PROPOSED, Event.LOSE): State.PROPOSED,
    (State.RUNNING, Event.EPOCH): State.RUNNING,
    (State.RUNNING, Event.COMPLETE): State.COMPLETE,
    (State.RUNNING, Event.PRUNE): State.PRUNED,
    (State.RUNNING, Event.FAIL): State.FAILED,
    (State.RUNNING, Event.LOSE): State.PROPOSED,
    (State.FAILED, Event.RETRY): State.PROPOSED,
}


def after(state: State, event: Event) -> State:
    """Return the state of a trial after an event.

    Raises:
        ValueError: the event cannot happen in this state.
    """
    if (state, event) not in TRANSITIONS:
        raise ValueError(f"a trial that is {state.value} cannot {event.value}")
    return TRANSITIONS[state, event]


def state_of(row: Mapping[str, Any] | None) -> State:
    """Return the state of a trial as the record has it.

    Args:
        row: its outcome; `None` if the record has none: whoever ran it is gone, so it is proposed.
    """
    return State.PROPOSED if row is None else State(row["state"])


class Report(Enum):
    """What a report of an epoch is."""

    NEW = "new"
    LATEST_AGAIN = "latest again"
    EARLIER_AGAIN = "earlier again"


class EpochLog:
    """The latest epoch of each trial: tells new reports from those that come again."""

    def __init__(self) -> None:
        self._latest: dict[int, int] = {}

    def latest(self, trial: int) -> int:
        """Return the latest epoch of a trial, from 1; 0 before the first."""
        return self._latest.get(trial, 0)

    def kind(self, trial: int, epoch: int) -> Report:
        """Return what a report of this epoch is; does not add it."""
        if epoch > self.latest(trial):
            return Report.NEW
        return Report.LATEST_AGAIN if epoch == self.latest(trial) else Report.EARLIER_AGAIN

    def add(self, trial: int, epoch: int) -> None:
        """Add an epoch that is new."""
        self._latest[trial] = epoch


def continues(checkpoint: Mapping[str, Any] | None) -> bool:
    """Return whether a worker continues from a checkpoint; else it starts at the beginning.

    Args:
        checkpoint: the newest whole one, `None` if there is none. One that was written after the
            trial failed is useless: a retry is meant to run again.
    """
    return checkpoint is not None and FAILURE not in checkpoint["result"]
