"""Accuracy in percent."""

import numpy as np
import numpy.typing as npt


def accuracy(probs_NK: npt.NDArray[np.float32], labels_N: npt.NDArray[np.int64]) -> float:
    """Return the share of N predictions that are right, in percent.

    NaN if N = 0, or if an output is not finite: argmax of NaN is a class as well.
    """
    if not len(labels_N) or not np.isfinite(probs_NK).all():
        return float("nan")
    return 100 * float(np.mean(probs_NK.argmax(axis=1) == labels_N))
