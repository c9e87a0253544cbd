"""Wrong labels: forget images that were trained with a wrong label.

Shape suffix: N images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import LabelledImages, Rows
from mixunlearn.signature import seed_for
from mixunlearn.tasks.base import Measure, Task
from mixunlearn.tasks.corruption import replaced, without_wrong_labels
from mixunlearn.tasks.draws import drawn, of_classes, share
from mixunlearn.tasks.keys import Classes, Fraction
from mixunlearn.tasks.wording import listed, share_in_words

CLEAN = "acc/train_forget_clean"  # accuracy on D_f, measured with the true labels


@dataclass(frozen=True, kw_only=True)
class NoisyTask(Task):
    """Give wrong labels to a fraction of the images of some classes; forget those images.

    The defaults are the paper's. Nothing else changes, so images for tuning and for the report
    have true labels.

    Args:
        classes: sorted.
        fraction: of their images, in (0, 1].
    """

    metrics: ClassVar[tuple[str, ...]] = (CLEAN,)

    classes: Annotated[tuple[int, ...], Classes(half="lower")]
    fraction: Annotated[float, Fraction(default=0.6)]

    @classmethod
    def incompatible(cls, dataset: Dataset) -> str | None:
        """Return the reason if there is only one class."""
        return without_wrong_labels(dataset)

    def forget(self, dataset: Dataset, train_N: Rows, seed: int) -> Rows:
        """Return random images of the classes."""
        pool_N = of_classes(dataset, train_N, self.classes)
        count = share(self.fraction, pool_N)
        return drawn(self, pool_N, count, dataset, seed)

    def corrupted(self, dataset: Dataset, forget_N: Rows, key: str) -> Dataset:
        """Return the data set with labels in D_f that are drawn uniformly from the wrong ones."""
        rng, classes = np.random.default_rng(seed_for("wrong labels", key)), len(dataset.classes)
        # A shift of 1 to K - 1 never gives the true label, and all wrong ones equally often.
        shifts_N = rng.integers(1, classes, len(forget_N))
        return replaced(dataset, forget_N, (dataset.labels_N[forget_N] + shifts_N) % classes)

    def gap_metrics(self, held_out: str) -> tuple[str, ...]:
        """Return the paper's metrics, with D_f measured by true labels instead of trained ones.

        A model that predicts the true label does not repeat the wrong one. The reverse does not
        hold, so the accuracy on true labels is the one metric of D_f.
        """
        return ("acc/train_retain", CLEAN, held_out, "mia/asr")

    def measures(self, held_out: LabelledImages, truth_N: Rows) -> Sequence[Measure]:
        """Return the measure of the accuracy on D_f with the true labels."""
        return (Measure(name=CLEAN, labels_N=truth_N),)

    def words(self, names: Sequence[str], *, forget: int, retain: int, known: int) -> str:
        """Describe the number of images and their classes."""
        chosen = listed(self.classes, names)
        share_of = share_in_words(forget, self.fraction)
        return f"{share_of} of {chosen}, which were taught with wrong labels"
