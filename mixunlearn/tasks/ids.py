"""A deletion request: forget the listed images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import Rows
from mixunlearn.tasks.base import Task
from mixunlearn.tasks.keys import RowList
from mixunlearn.wording import counted

SHOWN = 8  # ids listed


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

    def words(self, names: Sequence[str], *, forget: int, retain: int, known: int) -> str:
        """Describe the number of images and list the first ones."""
        shown = ", ".join(map(str, self.ids[:SHOWN])) + (", ..." if forget > SHOWN else "")
        return f"{counted(forget, 'image')} asked for: {shown}"
