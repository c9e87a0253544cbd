"""Samples of a data set by their rows, gathered on first use.

Shape suffixes: N samples, C channels, H W pixels.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mixunlearn.data.arrow import Dataset

Images = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Samples of a data set; they are pickled as row ids.

    Args:
        dataset: the images.
        ids_N: rows of the data set.
    """

    dataset: Dataset
    ids_N: Rows

    @cached_property
    def images_NCHW(self) -> Images:
        """Return the images as they are stored, uint8; gathered once."""
        return self.dataset.images_NCHW[self.ids_N]

    @cached_property
    def labels_N(self) -> Rows:
        """Return the labels, int64; gathered once."""
        return self.dataset.labels_N[self.ids_N]

    def __getstate__(self) -> dict[str, object]:
        # Without the gathered arrays: a worker gathers them from its own mapped file.
        return {"dataset": self.dataset, "ids_N": self.ids_N}
