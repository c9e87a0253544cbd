"""A deletion request: the images that were asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import Rows
from mixunlearn.tasks.base import Task
from mixunlearn.tasks.keys import RowList

SHOWN = 8  # ids listed


@dataclass(frozen=True, kw_only=True)
class IdsTask(Task):
    """Forget the training images of a list of row numbers, or of a file of them.

    Args:
        ids: sorted rows.
    """

    ids: Annotated[tuple[int, ...], RowList()]

    def forget(self, dataset: Dataset, train_N: Rows, seed: int) -> Rows:
        """Return the rows; nothing is drawn."""
        return np.array(self.ids)

    def words(self, names: Sequence[str], *, forget: int, retain: int, known: int) -> str:
        """Return how many images, and the first of them."""
        shown = ", ".join(map(str, self.ids[:SHOWN]))
        return f"{forget} images asked for: {shown}" + (", ..." if forget > SHOWN else "")
