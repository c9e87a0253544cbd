"""One run of a trial, as Optuna's storage records it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from mixunlearn.resume import Event, State, after, state_of
from search_spaces.space import Value

CONFIG, CODE, EPOCH, ROW, AT = "config", "code", "epoch:", "row", "at"
ENDS = {State.COMPLETE: Event.COMPLETE, State.PRUNED: Event.PRUNE, State.FAILED: Event.FAIL}
STATES = {  # our states as Optuna's
    State.COMPLETE: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
}

Metrics = Mapping[str, float | None]


@dataclass(kw_only=True)
class Attempt:
    """One run of a trial; a trial that failed and is retried has several.

    Args:
        key: id of the Optuna trial that records it.
        config: hyperparameters, `trial` and `seed`.
        hyperparameters: the values of those hyperparameters that vary, as Optuna records them.
        distributions: the distributions from which they were drawn.
        began: when it was proposed.
        ended: when its end was recorded.
        history: metrics by epoch.
        times: when the metrics were recorded, by epoch, in ms since 1970.
        row: its outcome, as in trials.parquet; `None` while it runs.
        ended_ms: when the outcome was recorded, in ms since 1970.
        code: version of the code that proposed it; empty if it is unknown.
        state: see `mixunlearn.resume`.
    """

    key: int
    config: dict[str, Value]
    hyperparameters: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    began: datetime
    ended: datetime | None = None
    history: dict[int, Metrics] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)
    row: dict[str, Any] | None = None
    ended_ms: int = 0
    code: str = ""
    state: State = State.PROPOSED

    def happen(self, event: Event) -> None:
        """Change the state as an event does.

        Raises:
            ValueError: it cannot happen in this state.
        """
        self.state = after(self.state, event)

    @property
    def number(self) -> int:
        """Return the trial's number, which all its attempts share."""
        return int(self.config["trial"])


def attempt_of(frozen: FrozenTrial) -> Attempt:
    """Return the attempt that one of Optuna's trials records."""
    attributes, row = frozen.user_attrs, frozen.user_attrs.get(ROW)
    ended = frozen.datetime_complete
    found = {int(key[len(EPOCH) :]): attributes[key] for key in attributes if key.startswith(EPOCH)}
    return Attempt(
        key=frozen._trial_id,
        config=dict(attributes[CONFIG]),
        hyperparameters=frozen.params,
        distributions=frozen.distributions,
        began=frozen.datetime_start or datetime.min,
        ended=ended,
        history={
            epoch: {name: value for name, value in metrics.items() if name != AT}
            for epoch, metrics in found.items()
        },
        # Studies of earlier versions have no times.
        times={epoch: metrics[AT] for epoch, metrics in found.items() if AT in metrics},
        row=row and {name: value for name, value in row.items() if name != AT},
        ended_ms=(row or {}).get(AT) or (int(ended.timestamp() * 1000) if ended else 0),
        code=attributes.get(CODE, ""),
        # From the row, not Optuna's state: a kill between both writes leaves only the row.
        state=state_of(row),
    )


def objective_curve(attempt: Attempt, objective: str) -> dict[int, float]:
    """Return the objective by epoch, without epochs in which it has no value."""
    values = {epoch: metrics.get(objective) for epoch, metrics in attempt.history.items()}
    return {epoch: value for epoch, value in values.items() if value is not None}


def objective_value(attempt: Attempt, objective: str) -> float | None:
    """Return the objective at the end of an attempt; `None` if it failed or still runs."""
    if attempt.row is None or attempt.state is State.FAILED:
        return None
    value: float | None = attempt.row.get(objective)
    return value
