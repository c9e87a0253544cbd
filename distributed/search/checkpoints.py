"""Which checkpoints of a study are kept, so that its disk use does not grow with its trials."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distributed.plan.plan import TESTED_TRIALS
from distributed.search.test_evaluation import default_row
from distributed.study.trials_table import Row, ranked
from mixunlearn.errors import MixUnlearnError
from mixunlearn.files import Files
from mixunlearn.patience import patiently
from mixunlearn.trial_names import trial_name

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of a study's trials, in the folders of Tune's runs.

    Two kinds are kept: those of running trials, and the last checkpoint of each finished trial
    from which the final test evaluation may continue (the best trials and the default).

    Args:
        runs: the folder of the runs.
        objective: the metric by which trials are ranked.
        default: the default configuration.
    """

    def __init__(self, runs: Files, objective: str, default: Mapping[str, Any]) -> None:
        self.runs, self._objective, self._default = runs, objective, default
        # Taken at the start: Tune still writes into the folder of the present run.
        self._earlier = set(runs.patiently().children())

    def wait(self, waiting: Callable[[Exception], None]) -> None:
        """Wait while the storage does not answer: a trial would not find its checkpoint.

        Args:
            waiting: called with the error before each new try; may raise to end the waiting.

        Raises:
            MixUnlearnError: it did not answer for too long.
        """
        patiently(self.runs.children, (MixUnlearnError,), waiting)

    def tidy(self, rows: Sequence[Row]) -> None:
        """Remove checkpoints that are no longer needed, and earlier runs that are then empty.

        Args:
            rows: the rows of all finished trials.
        """
        try:
            self._tidy(rows)
        except MixUnlearnError as error:  # the next call does it
            log.info("checkpoints were not removed: %s", error)

    def _tidy(self, rows: Sequence[Row]) -> None:
        finished = {trial_name(row["trial"]) for row in rows}
        outdated = finished - {trial_name(row["trial"]) for row in self._useful(rows)}
        for run in reversed(self.runs.children()):  # the latest first
            # Tune keeps files of its own beside the folders of trials.
            there = {name for name in (self.runs / run).children() if name.isdigit()}
            for name in there & outdated:
                (self.runs / run / name).delete()
            if run in self._earlier and there <= outdated:
                (self.runs / run).delete()
            outdated |= there & finished  # an older checkpoint of the same trial

    def _useful(self, rows: Sequence[Row]) -> list[Row]:
        default = default_row(rows, self._default)
        return [*ranked(rows, self._objective)[:TESTED_TRIALS], *([default] if default else [])]
