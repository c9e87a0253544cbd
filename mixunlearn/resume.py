"""How a trial continues after an interruption: one state machine for all participants.

    proposed ──start──▶ running ──end──▶ complete | pruned | failed
        ▲                │   ▲                               │
        │                │   └── epoch: a new one, or a repeated one
        ├───── lost ─────┘                                   │
        └──────────────────── retry ─────────────────────────┘

The record of the study is the only memory. It is written before anything else happens: a proposal
before its worker starts, an epoch before MLflow gets it, an end before the next proposal. So a
killed process leaves a record that may be incomplete but is never wrong. When the study is opened
again, each participant continues from the record:

- The record (`distributed/study/study.py`): proposed and running trials come first, by number,
  with their old seeds. If a trial's end has its row but not its state, the state is added.
- The worker (`trainables/unlearn.py`) loads the newest complete checkpoint of the same
  configuration and reports its epoch again, because the decision after that epoch may be missing.
  The record must have that epoch: a checkpoint of a lost record, or of an attempt that failed, is
  passed over. Checkpoints only save time: a trial never fails because of them.
- The scheduler (`distributed/search/scheduler.py`) gets all recorded epochs once. An epoch that is
  reported again gets the same decision as the first time.
- The sampler (`distributed/study/sampling.py`) gets all recorded ends. CMA-ES, whose state depends
  on the order of events, proposes the same trials again in that order.
- MLflow (`distributed/search/trial_callback.py`) gets everything again. What a run already has is
  not sent twice.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

FAILURE = "failure"  # key in a result: why the trial failed


class State(Enum):
    """The states of a trial; the last three are those of `trials.parquet`."""

    PROPOSED = "proposed"
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether the trial is finished, unless it is retried."""
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
    """Return the state of a trial according to the record.

    Args:
        row: its outcome; `None` if the record has none: its process ended, so it is proposed again.
    """
    return State.PROPOSED if row is None else State(row["state"])


class Report(Enum):
    """Whether a report of an epoch is new or repeated."""

    NEW = "new"
    LATEST_AGAIN = "latest again"
    EARLIER_AGAIN = "earlier again"


class EpochLog:
    """The latest epoch of each trial: distinguishes new reports from repeated ones."""

    def __init__(self) -> None:
        self._latest: dict[int, int] = {}

    def latest(self, trial: int) -> int:
        """Return the latest epoch of a trial, from 1; 0 before the first."""
        return self._latest.get(trial, 0)

    def kind(self, trial: int, epoch: int) -> Report:
        """Return whether a report of this epoch is new or repeated; do not add it."""
        if epoch > self.latest(trial):
            return Report.NEW
        return Report.LATEST_AGAIN if epoch == self.latest(trial) else Report.EARLIER_AGAIN

    def add(self, trial: int, epoch: int) -> None:
        """Add a new epoch."""
        self._latest[trial] = epoch


def continues(checkpoint: Mapping[str, Any] | None) -> bool:
    """Return whether a worker continues from a checkpoint; if not, it starts from the beginning.

    Args:
        checkpoint: the newest complete one, `None` if there is none. A checkpoint that was written
            after the trial failed is not used: a retry must run the trial again.
    """
    return checkpoint is not None and FAILURE not in checkpoint["result"]
