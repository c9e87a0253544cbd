"""Methods whose epochs differ from each other."""

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mixunlearn.methods.base import Context, Method


@dataclass(kw_only=True)
class Scheduled(Method, ABC):
    """A method that counts its epochs in `epochs_done`."""

    def prepare(self, context: Context) -> None:
        """Build the unlearner and start counting."""
        super().prepare(context)
        self.epochs_done = 0

    def epoch(self) -> dict[str, float]:
        """Make one pass and count it."""
        scalars = super().epoch()
        self.epochs_done += 1
        return scalars

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next epoch depends on."""
        return {**super().state_dict(), "epochs_done": self.epochs_done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; `prepare` must have been called before."""
        super().load_state_dict(state)
        self.epochs_done = state["epochs_done"]
