"""How much images are memorised: a proxy in closed form, without training a network.

An image is memorised if a model predicts its label only because it was trained on it. The measure
is the probability of its label, minus that of a model trained on all other images (Feldman, Zhang.
arXiv 2008.03703). Memorisation is one of the two factors that were found to decide how hard a
forget set is to unlearn (Zhao et al. arXiv 2406.01257). The exact measure needs many trainings;
cheap proxies have worked about as well for methods that need it (Zhao, Triantafillou.
arXiv 2410.16516).

Shape suffixes: N images, D features, K classes.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.batches import PIXEL_MAX

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
Pixels: TypeAlias = Callable[[Rows], Tensor]  # places of images -> uint8, (N, C, H, W), on the CPU

SIDE = 16  # images are averaged down to at most this size: the cost is quadratic in the features
RIDGE = 1e-3  # penalty, in units of the mean over features of their sum of squares
CHUNK = 4096  # images at a time, at most
VALUES = 2**26  # pixels times channels at a time: 512 MiB as float64
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

    def pixels(places: Rows) -> Tensor:
        return torch.from_numpy(dataset.images_NCHW[rows_N[places]])

    return scores(pixels, dataset.labels_N[rows_N], len(dataset.classes), by)


def scores(pixels: Pixels, labels_N: Rows, n_classes: int, by: str) -> Floats:
    """Return the scores of images that are read chunk by chunk; see `hardness`.

    Args:
        pixels: returns images by their places.
        labels_N: of all images.
        n_classes: K.
        by: "memorisation" or "loss".
    """
    classes = np.eye(n_classes)
    gram_DD, products_DK = _sums(pixels, labels_N, classes)
    penalty = RIDGE * np.trace(gram_DD) / len(gram_DD)
    inverse_DD = np.linalg.inv(gram_DD + penalty * np.eye(len(gram_DD)))
    weights_DK = inverse_DD @ products_DK
    found = []
    for features_ND, own_N in _chunks(pixels, labels_N):
        leverage_N = np.einsum("nd,de,ne->n", features_ND, inverse_DD, features_ND, optimize=True)
        residuals_NK = classes[own_N] - features_ND @ weights_DK
        # The penalty keeps each leverage below 1, so the divisor is above 0.
        left_out_NK = residuals_NK / (1 - leverage_N)[:, None]
        if by == "loss":
            found.append((left_out_NK**2).sum(axis=1))
        else:
            found.append((left_out_NK - residuals_NK)[np.arange(len(own_N)), own_N])
    return np.concatenate(found).round(DECIMALS)


def _sums(pixels: Pixels, labels_N: Rows, classes: Floats) -> tuple[Floats, Floats]:
    """Return X'X and X'Y."""
    gram_DD, products_DK = np.zeros(()), np.zeros(())
    for features_ND, own_N in _chunks(pixels, labels_N):
        gram_DD = gram_DD + features_ND.T @ features_ND
        products_DK = products_DK + features_ND.T @ classes[own_N]
    return gram_DD, products_DK


def _chunks(pixels: Pixels, labels_N: Rows) -> Iterator[tuple[Floats, Rows]]:
    """Yield the features and labels of the images, chunk by chunk."""
    first = pixels(np.arange(min(1, len(labels_N))))
    size = min(first.shape[2], SIDE), min(first.shape[3], SIDE)
    count = max(1, min(CHUNK, VALUES // max(1, first.numel())))
    for start in range(0, len(labels_N), count):
        rows = np.arange(start, min(start + count, len(labels_N)))
        images = pixels(rows).double().div_(PIXEL_MAX)
        pixels_ND = F.adaptive_avg_pool2d(images, size).flatten(1).numpy()
        yield np.hstack((pixels_ND, np.ones((len(rows), 1)))), labels_N[rows]
