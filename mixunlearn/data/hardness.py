"""How much images are memorised: a proxy in closed form, without training a network.

An image is memorised if a model predicts its label only because it was trained on it. The measure
is the probability of its label, minus that of a model trained on all other images (Feldman, Zhang.
arXiv 2008.03703). Memorisation is one of the two factors that were found to decide how hard a
forget set is to unlearn (Zhao et al. arXiv 2406.01257). The exact measure needs many trainings;
cheap proxies have worked about as well for methods that need it (Zhao, Triantafillou.
arXiv 2410.16516).

Shape suffixes: N images, D features, K classes.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.batches import PIXEL_MAX

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

SIDE = 16  # images are averaged down to at most this size: the cost is quadratic in the features
RIDGE = 1e-3  # penalty, in units of the mean over features of their sum of squares
CHUNK = 4096  # images at a time
DECIMALS = 9  # of a score: rounding errors of a processor must not decide a rank


def hardness(dataset: Dataset, rows_N: Rows, by: str) -> Floats:
    """Return how much each image is memorised, or how hard it is.

    The model is ridge regression of the one-hot labels on the averaged pixels: its output for a
    class is an estimate of the class's probability. Without image i its residual would be
    r_i / (1 - h_i), where h_i = x_i' (X'X + penalty)^-1 x_i (the leave-one-out identity of linear
    smoothers, Hastie et al., The Elements of Statistical Learning, eq. 7.64). So one fit is enough
    to leave out every image in turn.

    Args:
        dataset: the images.
        rows_N: the training images; each gets a score.
        by: "memorisation": the output for the image's class, minus the output without the image;
            below 0 if the output is above 1. "loss": the squared error of the outputs without the
            image.
    """
    classes = np.eye(len(dataset.classes))
    gram_DD, products_DK = _sums(dataset, rows_N, classes)
    penalty = RIDGE * np.trace(gram_DD) / len(gram_DD)
    inverse_DD = np.linalg.inv(gram_DD + penalty * np.eye(len(gram_DD)))
    weights_DK = inverse_DD @ products_DK
    scores = []
    for features_ND, labels_N in _chunks(dataset, rows_N):
        leverage_N = np.einsum("nd,de,ne->n", features_ND, inverse_DD, features_ND, optimize=True)
        residuals_NK = classes[labels_N] - features_ND @ weights_DK
        # The penalty keeps each leverage below 1, so the divisor is above 0.
        left_out_NK = residuals_NK / (1 - leverage_N)[:, None]
        if by == "loss":
            scores.append((left_out_NK**2).sum(axis=1))
        else:
            scores.append((left_out_NK - residuals_NK)[np.arange(len(labels_N)), labels_N])
    return np.concatenate(scores).round(DECIMALS)


def _sums(dataset: Dataset, rows_N: Rows, classes: Floats) -> tuple[Floats, Floats]:
    """Return X'X and X'Y."""
    gram_DD, products_DK = np.zeros(()), np.zeros(())
    for features_ND, labels_N in _chunks(dataset, rows_N):
        gram_DD = gram_DD + features_ND.T @ features_ND
        products_DK = products_DK + features_ND.T @ classes[labels_N]
    return gram_DD, products_DK


def _chunks(dataset: Dataset, rows_N: Rows) -> Iterator[tuple[Floats, Rows]]:
    """Yield the features and labels of the images, chunk by chunk."""
    height, width = dataset.images_NCHW.shape[2:]
    size = min(height, SIDE), min(width, SIDE)
    for start in range(0, len(rows_N), CHUNK):
        rows = rows_N[start : start + CHUNK]
        images = torch.from_numpy(dataset.images_NCHW[rows]).double() / PIXEL_MAX
        pixels_ND = F.adaptive_avg_pool2d(images, size).flatten(1).numpy()
        yield np.hstack((pixels_ND, np.ones((len(rows), 1)))), dataset.labels_N[rows]
