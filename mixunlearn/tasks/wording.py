"""What is to be forgotten, in words."""

from collections.abc import Sequence

from mixunlearn.data.splits import Splits
from mixunlearn.tasks.keys import Task

SHOWN = 8  # ids listed


def forget_set(splits: Splits, names: Sequence[str]) -> str:
    """Return what is to be forgotten, in words.

    Args:
        splits: of which task, and how many images.
        names: of the classes.
    """
    task, number = splits.task, len(splits.forget_N)
    words = _of_task(task.forgetting, number, names)
    if task.labelled is not None:
        words += f"; methods know {len(splits.known_N)} of {len(splits.retain_N)} retained labels"
    return words


def _of_task(task: Task, number: int, names: Sequence[str]) -> str:
    chosen, target = _listed(task.classes or (), names), names[task.target or 0]
    if task.ids is not None:
        listed = ", ".join(map(str, task.ids[:SHOWN]))
        return f"{number} images asked for: {listed}" + (", ..." if number > SHOWN else "")
    if task.fraction is None:
        return f"all {number} training images of class {chosen}"
    share = f"{number} images: {task.fraction:.0%} of the training images"
    trigger = f"a trigger of {task.size}×{task.size} pixels"
    more = {
        "data": f" of {chosen}",
        "noisy": f" of {chosen}, which were taught with wrong labels",
        "backdoor": f" of all but {target}, which were taught as {target}, with {trigger}",
        "hard": f", those of {task.order} {task.by}",
    }
    return share + more.get(task.kind, "")


def _listed(classes: Sequence[int], names: Sequence[str]) -> str:
    """Return the names of classes, or which half of them it is."""
    middle, indices = len(names) // 2, list(range(len(names)))
    if len(names) > 2:  # noqa: PLR2004 - a half of one class is better named
        for half, which in ((indices[middle:], "upper"), (indices[:middle], "lower")):
            if list(classes) == half:
                return f"the {which} half"
    return ", ".join(names[index] for index in classes)
