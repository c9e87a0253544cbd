"""Tells the user when checkpoints cannot be written, and when they can again."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from trainables.stored import LEFT_OUT


class CheckpointNews:
    """Listens to results and checkpoints, and says each change in one line.

    Args:
        say: shows a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._told = say, False

    def heard(self, trial: Any, result: Mapping[str, Any]) -> None:  # noqa: ANN401 - Ray's trial
        """Listen to a result: it says whether the checkpoint before it was left out."""
        reason = result.get(LEFT_OUT)
        if reason is None:
            return
        if not self._told:
            self._say(f"checkpoints cannot be written: {reason}; going on without them")
        self._told = True
        # Tune writes no checkpoint without its marker, which somebody may have deleted.
        with suppress(OSError):
            trial.storage._create_validation_file()

    def written(self) -> None:
        """Listen to a checkpoint."""
        if self._told:
            self._say("checkpoints are written again")
        self._told = False
