"""The splits of an experiment."""

from distributed.config.experiment import Experiment
from mixunlearn.data.arrow import Dataset
from mixunlearn.splits import Splits, make_splits


def splits_of(experiment: Experiment, source: Dataset) -> Splits:
    """Return which images an experiment forgets, retains and holds out.

    Args:
        experiment: what the user wrote.
        source: the unchanged images of its source.

    Raises:
        InputError: the task or a limit does not fit the data set.
    """
    return make_splits(
        source,
        experiment.task.model_dump(exclude_none=True),
        seed=experiment.data.seed,
        limit=experiment.data.limit.model_dump(exclude_none=True),
        trained=experiment.model.original is not None,
    )
