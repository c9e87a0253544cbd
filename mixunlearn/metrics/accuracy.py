"""Accuracy in percent."""

import numpy as np
import numpy.typing as npt


def accuracy(probs_NC: npt.NDArray[np.float32], labels_N: npt.NDArray[np.int64]) -> float:
    """Return how many of N predictions are right, in percent; NaN when there are none."""
    if not len(labels_N):
        return float("nan")
    return 100 * float(np.mean(probs_NC.argmax(axis=1) == labels_N))
