"""Forget random images of some classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import Rows
from mixunlearn.tasks.base import Task
from mixunlearn.tasks.draws import drawn, of_classes, share
from mixunlearn.tasks.keys import Classes, Fraction
from mixunlearn.tasks.wording import listed, share_in_words


@dataclass(frozen=True, kw_only=True)
class DataTask(Task):
    """Forget a fraction of the training images of some classes; the defaults are the paper's.

    Args:
        classes: sorted.
        fraction: of their images, in (0, 1].
    """

    classes: Annotated[tuple[int, ...], Classes(half="upper")]
    fraction: Annotated[float, Fraction(default=0.4)]

    def forget(self, dataset: Dataset, train_N: Rows, seed: int) -> Rows:
        """Return random images of the classes."""
        pool_N = of_classes(dataset, train_N, self.classes)
        count = share(self.fraction, pool_N)
        return drawn(self, pool_N, count, dataset, seed)

    def words(self, names: Sequence[str], *, forget: int, retain: int, known: int) -> str:
        """Describe the number of images and their classes."""
        return f"{share_in_words(forget, self.fraction)} of {listed(self.classes, names)}"
