"""Data sets as an error or an attacker left them: what the models of some tasks are trained on.

Shapes: N images, F channels, H W pixels.
"""

import numpy as np
from numpy.typing import NDArray

from mixunlearn.data.arrow import Dataset, make_dataset
from mixunlearn.data.splits import Splits
from mixunlearn.signature import seed_for

WHITE = 255


def spoilt(dataset: Dataset, splits: Splits) -> Dataset:
    """Return the data set that the models of a task are trained on; most tasks change nothing.

    `noisy`: each image of D_f has a label drawn from the wrong ones. `backdoor`: each has the
    trigger and the target's label. All else stays as it is, so images for tuning and for the
    report have true labels and no trigger. Equal arguments, equal data set.

    Args:
        dataset: the images as the source has them, which `splits` were made of.
        splits: who is to be forgotten, in which task.
    """
    task, forget_N = splits.task, splits.forget_N
    images_NFHW, labels_N = dataset.images_NFHW, dataset.labels_N.copy()
    if task.kind == "noisy":
        labels_N[forget_N] = _wrong(splits.truth_N, len(dataset.classes), splits.key)
    elif task.target is not None and task.size is not None:
        images_NFHW, labels_N[forget_N] = images_NFHW.copy(), task.target
        images_NFHW[forget_N] = triggered(images_NFHW[forget_N], task.size)
    else:
        return dataset
    return make_dataset(
        images_NFHW,
        labels_N,
        classes=dataset.classes,
        n_train=dataset.n_train,
        source=dataset.source,
    )


def triggered(images_NFHW: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return images with the trigger: a white square of `size` pixels, bottom right.

    Source: the square of Gu, Dolan-Gavitt, Garg. BadNets. arXiv 1708.06733.
    """
    changed_NFHW = images_NFHW.copy()
    changed_NFHW[:, :, -size:, -size:] = WHITE
    return changed_NFHW


def _wrong(truth_N: NDArray[np.int64], classes: int, key: str) -> NDArray[np.int64]:
    """Return labels drawn uniformly from those that are not the true ones."""
    rng = np.random.default_rng(seed_for("wrong labels", key))
    return (truth_N + rng.integers(1, classes, len(truth_N))) % classes
