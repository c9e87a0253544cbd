"""Tasks as users write them: looked up by kind and checked against the data set."""

from collections.abc import Mapping
from functools import cache

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.tasks import TASKS, Task


def check_task(task: Mapping[str, object], dataset: Dataset) -> Task:
    """Return `task` with its defaults filled in.

    Args:
        task: `{"kind": "class", "classes": [0]}`, `{"kind": "data", "fraction": 0.4,
            "classes": [5, 6]}` (default: the upper half of the classes), or another kind of
            `TASKS` with some of its keys. None counts as absent.
        dataset: the labelled images.

    Raises:
        InputError: the kind, a key or a value is invalid.
    """
    kind = task.get("kind")
    if not isinstance(kind, str) or kind not in TASKS:
        raise InputError("task.kind", kind, f"unknown; {known_names(kind, TASKS)}")
    keys = {key: value for key, value in task.items() if key != "kind" and value is not None}
    return TASKS[kind].checked(kind, keys, dataset)


def level(task: Mapping[str, object]) -> str:
    """Return the kind of task as methods see it: "class" if whole classes are forgotten.

    Args:
        task: the task as the user wrote it, not checked yet.
    """
    kind = str(task.get("kind"))
    return TASKS[kind].level(task) if kind in TASKS else kind


@cache
def own_groups() -> frozenset[str]:
    """Return the groups of the metrics that kinds of tasks add to the common ones; in percent."""
    names = (name for task in TASKS.values() for name in task.metrics)
    return frozenset(name.partition("/")[0] for name in names)
