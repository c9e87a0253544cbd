"""Ways to choose images, shared by several kinds of tasks."""

from dataclasses import replace
from typing import Any

import numpy as np

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import Rows
from mixunlearn.errors import InputError
from mixunlearn.signature import seed_for
from mixunlearn.tasks.base import Task
from mixunlearn.wording import counted


def of_classes(dataset: Dataset, train_N: Rows, classes: tuple[int, ...]) -> Rows:
    """Return the training images of some classes.

    Args:
        dataset: the images.
        train_N: rows of the training images.
        classes: the classes.

    Raises:
        InputError: these classes have no training images.
    """
    pool_N = train_N[np.isin(dataset.labels_N[train_N], classes)]
    if not len(pool_N):
        names = ", ".join(dataset.classes[index] for index in classes)
        remedy = f"no training image is of {names}: use other classes or more images"
        raise InputError("task.classes", list(classes), remedy)
    return pool_N


def share(fraction: float, pool_N: Rows) -> int:
    """Return how many images to forget for a fraction of a pool.

    Raises:
        InputError: the number rounds to 0.
    """
    count = round(fraction * len(pool_N))
    if not count:
        remedy = (
            f"forgets none of {counted(len(pool_N), 'image')}: {1 / len(pool_N):.2g} forgets one"
        )
        raise InputError("task.fraction", fraction, remedy)
    return count


def drawn(task: Task, pool_N: Rows, count: int, dataset: Dataset, seed: int) -> Rows:
    """Return the random images of a task's draw; no two draws share an image.

    Args:
        task: its `draw` counts from 0.
        pool_N: rows that may be forgotten, sorted.
        count: number of images to forget.
        dataset: its digest is part of the seed.
        seed: of the splits.

    Raises:
        InputError: the pool has not so many disjoint forget sets.
    """
    most = len(pool_N) // count
    if task.draw and task.draw >= most:
        remedy = f"only {counted(most, 'forget set')} of this size can be drawn: use a smaller one"
        raise InputError("task.kind", task.kind, remedy)
    order_N = shuffled(pool_N, dataset, replace(task, draw=0).content(), seed)
    return order_N[task.draw * count :][:count]


def shuffled(
    rows_N: Rows, dataset: Dataset, content: dict[str, Any], seed: int, purpose: str = "forget"
) -> Rows:
    """Return rows in random order; equal arguments give the same order.

    Args:
        rows_N: the rows, sorted.
        dataset: its digest is part of the seed.
        content: content of the task.
        seed: of the splits.
        purpose: what the order is used for, so that no draw depends on another.
    """
    rng = np.random.default_rng(seed_for(purpose, dataset.digest, content, int(seed)))
    return rng.permutation(rows_N)
