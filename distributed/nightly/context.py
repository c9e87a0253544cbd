"""What all experiments of one night share."""

import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from distributed.config.nightly import Nightly
from distributed.search.session import Session
from mixunlearn.signature import seed_for


@dataclass(frozen=True, kw_only=True)
class NightContext:
    """What all experiments of one night share.

    Args:
        nightly: the plan.
        night: its date.
        home: where results are kept.
        session: the session to run in.
        command: name of the command, for error messages.
        local: whether trials run on this machine.
        attempt: 1, plus one each time the night is forced.
        began: start of the night, in seconds of the monotonic clock.
    """

    nightly: Nightly
    night: date
    home: Path
    session: Session
    command: str
    local: bool
    attempt: int = 1
    # Monotonic: a clock change in the night must not change the budget.
    began: float = field(default_factory=time.monotonic)

    def left(self) -> float | None:
        """Return the seconds that are left; `None` without a limit."""
        hours = self.nightly.budget.hours
        return None if hours is None else self.began + hours * 3600 - time.monotonic()

    def enough(self) -> bool:
        """Return whether a stop was requested, or the time is over."""
        left = self.left()
        return self.session.stop.asked is not None or (left is not None and left < 0)

    def seed(self, experiment: str, index: int) -> int:
        """Return one of the night's fresh seeds.

        Args:
            experiment: its name.
            index: from 0, below the plan's `seeds`.
        """
        night = self.night.isoformat()
        # With the attempt: a forced night must not find its first results in the store.
        # Without a role: champion and candidate unlearn with the same seeds, so the duel has pairs.
        return seed_for("night", self.nightly.name, experiment, night, self.attempt, index)
