"""Ray Tune's searcher: it asks the study."""

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from distributed.search.unsaved import Unsaved
from distributed.study.study import Study
from search_spaces.space import Value


class StudySearcher(Unsaved, Searcher):
    """Lets Ray Tune ask the study; what comes back is told by the sweep's callback.

    The callback sees a trial's error and every epoch, the searcher does not.

    Args:
        study: to ask.
        may_start: whether new trials may start: not once a stop was asked for.
    """

    def __init__(self, study: Study, may_start: Callable[[], bool] = lambda: True) -> None:
        super().__init__(metric=study.objective, mode="min")
        self.study, self.may_start = study, may_start

    def suggest(self, trial_id: str) -> dict[str, Value] | None:
        """Return the next configuration; `None`: none for now."""
        return self.study.ask() if self.may_start() else None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the callback tells the study."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study is already on the disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the study is already on the disk."""
