"""Ray Tune's searcher: it gets configurations from the study."""

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from distributed.search.unsaved import Unsaved
from distributed.study.study import Study
from search_spaces.space import Value
from trainables.unlearn import RECORDED


class StudySearcher(Unsaved, Searcher):
    """Gives Ray Tune the configurations that the study proposes.

    The trial callback records the results, because it sees a trial's error and every epoch. The
    searcher does not see them.

    Args:
        study: the study that proposes configurations.
        may_start: returns whether new trials may start, see `TrialCallback.may_start`.
    """

    def __init__(self, study: Study, may_start: Callable[[], bool] = lambda: True) -> None:
        super().__init__(metric=study.objective, mode="min")
        self.study, self.may_start = study, may_start

    def suggest(self, trial_id: str) -> dict[str, Value] | None:
        """Return the next configuration; `None` if no trial may start."""
        if not self.may_start():
            return None
        # Recorded by `ask` before Tune sees it: a kill in between loses no number and no seed.
        config = self.study.ask()
        return {**config, RECORDED: max(self.study.history(int(config["trial"])), default=0)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the trial callback records the result."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study is already on the disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the study is already on the disk."""
