"""Samples of a data set by their rows, gathered on first use.

Shape suffixes: N samples, C channels, H W pixels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mixunlearn.data.arrow import Dataset

# PyTorch is imported late: experiments are checked without it, and tasks need this module for that.
if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mixunlearn.data import streaming

Images = npt.NDArray[np.uint8]  # on the host
Rows = npt.NDArray[np.int64]


def shared(array: npt.NDArray[Any]) -> Tensor:
    """Return a tensor that shares the array's memory; it must not be written to."""
    import torch  # noqa: PLC0415 (see above)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


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
        """Return the images as they are stored, uint8; gathered once, so not for large sets."""
        return self.dataset.images_NCHW[self.ids_N]

    @property
    def nbytes(self) -> int:
        """Return the size of the images."""
        return len(self.ids_N) * self.dataset.images_NCHW[:1].nbytes

    def streamed(self, device: torch.device) -> streaming.Streamed:
        """Return the images, to be read batch by batch."""
        from mixunlearn.data import streaming  # noqa: PLC0415 (see above)

        arrays = (self.dataset.images_NCHW,)
        return streaming.Streamed(arrays=arrays, rows_N=self.ids_N, device=device)

    def on(self, device: torch.device, *, resident: bool) -> streaming.Images:
        """Return the images on a device, or to be read batch by batch.

        On the CPU, resident images are those of `images_NCHW`, shared by all trials of a process.
        """
        if not resident:
            return self.streamed(device)
        if device.type == "cpu":
            return shared(self.images_NCHW)
        return self.streamed(device).whole()  # without a copy of all on the host

    @cached_property
    def labels_N(self) -> Rows:
        """Return the labels, int64; gathered once."""
        return self.dataset.labels_N[self.ids_N]

    def __getstate__(self) -> dict[str, object]:
        # Without the gathered arrays: a worker gathers them from its own mapped file.
        return {"dataset": self.dataset, "ids_N": self.ids_N}
