"""Unseen images close to the forget set: what a model loses there is catastrophic unlearning.

Shape suffixes: N samples, D forget samples, E features, K classes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from mixunlearn.data.batches import Indices, Samples
from mixunlearn.evidence.features import features
from mixunlearn.models import StagedModel

NEAREST = 0.1  # of the unseen images
FEWEST = 50  # so that one image is at most 2 points
BATCH = 1024  # limits memory only


def nearest(original: StagedModel, forget: Samples, unseen: Samples) -> Indices:
    """Return the rows of the unseen images that are nearest to the forget set, sorted.

    A tenth of them, but at least 50 or all. The distance of an image is that to its nearest forget
    image, by the cosine of their features in the original.

    Args:
        original: the model that must forget; not changed.
        forget: images of D_f, at least one.
        unseen: images that no model was trained on, at least one.
    """
    forget_DE = F.normalize(features(original, forget), dim=1)
    parts = torch.split(F.normalize(features(original, unseen), dim=1), BATCH)
    cosine_N = torch.cat([(part_BE @ forget_DE.T).amax(dim=1) for part_BE in parts])
    # Stable, so that equal distances are always in the same order.
    order_N = torch.argsort(cosine_N, descending=True, stable=True).cpu().numpy()
    return np.sort(order_N[: max(FEWEST, round(NEAREST * len(order_N)))])


def confused_class(
    probs_NK: npt.NDArray[np.float32], labels_N: Indices, excluded: Sequence[int] = ()
) -> int:
    """Return the wrong class that gets most of the probability, on average.

    Args:
        probs_NK: softmax outputs of the original on images of the forgotten classes.
        labels_N: their classes.
        excluded: classes that do not count, fewer than K.
    """
    wrong_NK = probs_NK.astype(np.float64)
    wrong_NK[np.arange(len(labels_N)), labels_N] = 0.0
    wrong_K = wrong_NK.mean(axis=0)
    wrong_K[list(excluded)] = -1.0
    return int(wrong_K.argmax())
