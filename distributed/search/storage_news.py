"""Tells the user when the storage of checkpoints does not answer, and when it does again."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from distributed.runtime.text import redact
from mixunlearn.errors import MixUnlearnError
from mixunlearn.files import Files
from trainables.stored import LEFT_OUT

SILENCE_S = 10.0  # after so long without a result, the driver asks the storage itself


class StorageNews:
    """Listens to results and checkpoints, and says each change in one line.

    Workers that wait for the storage cannot say so: the driver asks the storage in their place.

    Args:
        runs: the folder of Tune's runs.
        say: shows a line.
    """

    def __init__(self, runs: Files, say: Callable[[str], None]) -> None:
        self._runs, self._say = runs, say
        self._away = self._left_out = False  # what was said last
        self._heard = time.monotonic()

    def result(self, trial: Any, result: Mapping[str, Any]) -> None:  # noqa: ANN401 - Ray's trial
        """Listen to a result: it says whether the checkpoint before it was left out."""
        self._heard = time.monotonic()
        reason = result.get(LEFT_OUT)
        if reason is None:
            return
        if not self._left_out:
            # Not yet redacted: a worker passes on what the file system says.
            self._say(f"checkpoints cannot be written: {redact(reason)}; going on without them")
        self._left_out = True
        # Tune writes no checkpoint without its marker, which somebody may have deleted.
        with suppress(OSError):
            trial.storage._create_validation_file()

    def checkpoint(self) -> None:
        """Listen to a checkpoint."""
        if self._left_out:
            self._say("checkpoints are written again")
        self._left_out = False

    def look(self) -> None:
        """Ask the storage whether it answers, if no result came for a while."""
        if time.monotonic() - self._heard < SILENCE_S:
            return
        self._heard = time.monotonic()
        try:
            self._runs.children()
        except MixUnlearnError as error:
            self.away(error)
        else:
            self.back()

    def away(self, error: Exception) -> None:
        """Say that the storage does not answer, once."""
        if not self._away:
            # Without its remedy: the storage has answered before, so its address is right.
            self._say(f"{str(error).rpartition('; ')[0]}; waiting for it")
        self._away = True

    def back(self) -> None:
        """Say that the storage answers again, if it did not."""
        if self._away:
            self._say("the storage answers again")
        self._away = False
