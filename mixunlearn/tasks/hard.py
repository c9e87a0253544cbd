"""Forget the images that are memorised most, or least."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import Rows
from mixunlearn.errors import InputError
from mixunlearn.tasks.base import Task
from mixunlearn.tasks.draws import share
from mixunlearn.tasks.keys import Fraction, OneOf
from mixunlearn.tasks.wording import share_in_words


@dataclass(frozen=True, kw_only=True)
class HardTask(Task):
    """Forget the fraction of all training images that is memorised most, or least.

    Args:
        fraction: in (0, 1].
        by: measure of `mixunlearn.data.hardness` that ranks the images.
        order: whether the images with the "highest" or the "lowest" values are forgotten.
    """

    fraction: Annotated[float, Fraction(default=0.1)]
    by: Annotated[str, OneOf(options=("memorisation", "loss"), default="memorisation")]
    order: Annotated[str, OneOf(options=("highest", "lowest"), default="highest")]

    def forget(self, dataset: Dataset, train_N: Rows, seed: int) -> Rows:
        """Return the first images by rank; nothing is random, equal scores are ranked by row."""
        from mixunlearn.data.hardness import hardness  # noqa: PLC0415 - it imports torch

        count = share(self.fraction, train_N)
        score_N = hardness(dataset, train_N, self.by)
        # Negated instead of reversed, so that equal scores keep their order in both cases.
        ranked_N = np.argsort(score_N if self.order == "lowest" else -score_N, kind="stable")
        return train_N[ranked_N][:count]

    def another(self, dataset: Dataset, train_N: Rows, number: int) -> Self:
        """Raise `InputError`: the first images by rank are always the same."""
        remedy = "its forget set is always the same, there is no other one of this kind"
        raise InputError("task.kind", self.kind, remedy)

    def words(self, names: Sequence[str], *, forget: int, retain: int, known: int) -> str:
        """Describe the number of images and how they are ranked."""
        return f"{share_in_words(forget, self.fraction)}, those of {self.order} {self.by}"
