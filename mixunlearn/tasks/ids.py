"""A deletion request: forget the listed images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

import numpy as np

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import Rows
from mixunlearn.errors import InputError
from mixunlearn.tasks.base import Task
from mixunlearn.tasks.draws import shuffled
from mixunlearn.tasks.keys import RowList
from mixunlearn.wording import counted


@dataclass(frozen=True, kw_only=True)
class IdsTask(Task):
    """Forget the training images in a list of row numbers, or in a file of them.

    Args:
        ids: sorted rows.
    """

    ids: Annotated[tuple[int, ...], RowList()]

    def forget(self, dataset: Dataset, train_N: Rows, seed: int) -> Rows:
        """Return the rows; nothing is random."""
        return np.array(self.ids)

    def another(self, dataset: Dataset, train_N: Rows, number: int) -> Self:
        """Return the task of random other images: as many of each class as are listed."""
        rest_N = np.setdiff1d(train_N, self.ids)
        classes = zip(*np.unique(dataset.labels_N[list(self.ids)], return_counts=True), strict=True)
        chosen: list[int] = []
        for label, count in classes:
            pool_N = rest_N[dataset.labels_N[rest_N] == label]
            order_N = shuffled(pool_N, dataset, self.content(), 0, "another")
            found_N = order_N[(number - 1) * count :][:count]
            if len(found_N) < count:
                remedy = f"class {dataset.classes[label]} has too few other images for another set"
                raise InputError("task.ids", counted(len(self.ids), "image"), remedy)
            chosen += found_N.tolist()
        return replace(self, ids=tuple(sorted(chosen)))

    def words(self, names: Sequence[str], *, forget: int, retain: int, known: int) -> str:
        """Count the images; which ones they are is never shown: these words are published."""
        return f"{counted(forget, 'image')} asked for"
