"""A backdoor: forget images that were trained with a trigger and the label of another class.

Shape suffixes: N images, C channels, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import Images, LabelledImages, Rows
from mixunlearn.errors import InputError
from mixunlearn.tasks.base import Measure, Task
from mixunlearn.tasks.corruption import replaced, without_wrong_labels
from mixunlearn.tasks.draws import drawn, share
from mixunlearn.tasks.keys import Fraction, OneClass, Side
from mixunlearn.tasks.wording import share_in_words

WHITE = 255
SUCCESS = "backdoor/success"  # share of unseen images that the trigger moves to the target class


@dataclass(frozen=True, kw_only=True)
class BackdoorTask(Task):
    """Put a trigger and the target's label on a fraction of other classes' images; forget those.

    Nothing else changes, so images for tuning and for the report have no trigger.

    Args:
        target: the class that is the label of images with a trigger.
        fraction: of the images of other classes, in (0, 1].
        size: side of the trigger in pixels.
    """

    metrics: ClassVar[tuple[str, ...]] = (SUCCESS,)

    target: Annotated[int, OneClass(default=0)]
    fraction: Annotated[float, Fraction(default=0.1)]
    size: Annotated[int, Side(default=3)]

    @classmethod
    def incompatible(cls, dataset: Dataset) -> str | None:
        """Return the reason if there is only one class."""
        return without_wrong_labels(dataset)

    def forget(self, dataset: Dataset, train_N: Rows, seed: int) -> Rows:
        """Return random images of classes other than the target."""
        pool_N = train_N[dataset.labels_N[train_N] != self.target]
        if not len(pool_N):
            remedy = "every training image is of this class: name another, or use more images"
            raise InputError("task.target", self.target, remedy)
        count = share(self.fraction, pool_N)
        return drawn(self, pool_N, count, dataset, seed)

    def corrupted(self, dataset: Dataset, forget_N: Rows, key: str) -> Dataset:
        """Return the data set with the trigger and the target's label on the images of D_f."""
        images_NCHW = triggered(dataset.images_NCHW[forget_N], self.size)
        return replaced(dataset, forget_N, self.target, images_NCHW)

    def gap_metrics(self, held_out: str) -> tuple[str, ...]:
        """Return the metrics of the paper's table, and how often the trigger works."""
        # Without it, a method could close the backdoor only for the images of D_f.
        return (*super().gap_metrics(held_out), SUCCESS)

    def measures(self, held_out: LabelledImages, truth_N: Rows) -> Sequence[Measure]:
        """Return the measure of how often the trigger works on unseen images of other classes."""
        other_N = held_out.labels_N != self.target

        # A function, because measures are also read only for their names and numbers of images.
        def baits() -> Images:
            return triggered(held_out.dataset.images_NCHW[held_out.ids_N[other_N]], self.size)

        targets_N = np.full(other_N.sum(), self.target)
        return (Measure(name=SUCCESS, labels_N=targets_N, images_NCHW=baits),)

    def words(self, names: Sequence[str], *, forget: int, retain: int, known: int) -> str:
        """Describe the number of images, their classes and the trigger."""
        target, side = names[self.target], f"{self.size}×{self.size}"
        taught = f"taught as {target}, with a trigger of {side} pixels"
        return f"{share_in_words(forget, self.fraction)} of all but {target}, which were {taught}"


def triggered(images_NCHW: Images, size: int) -> Images:
    """Return images with the trigger: a white square of `size` pixels, bottom right.

    Source: the square of Gu, Dolan-Gavitt, Garg. BadNets. arXiv 1708.06733.
    """
    changed_NCHW = images_NCHW.copy()
    changed_NCHW[:, :, -size:, -size:] = WHITE
    return changed_NCHW
