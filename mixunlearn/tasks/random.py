"""Forget random images of all classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import Rows
from mixunlearn.tasks.base import Task
from mixunlearn.tasks.draws import drawn, share
from mixunlearn.tasks.keys import Fraction
from mixunlearn.tasks.wording import share_in_words


@dataclass(frozen=True, kw_only=True)
class RandomTask(Task):
    """Forget a fraction of all training images.

    Args:
        fraction: in (0, 1].
    """

    fraction: Annotated[float, Fraction(default=0.1)]

    def forget(self, dataset: Dataset, train_N: Rows, seed: int) -> Rows:
        """Return random training images."""
        count = share(self.fraction, train_N)
        return drawn(self, train_N, count, dataset, seed)

    def words(self, names: Sequence[str], *, forget: int, retain: int, known: int) -> str:
        """Describe the number of images."""
        return share_in_words(forget, self.fraction)
