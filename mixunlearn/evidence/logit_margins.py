"""Logit margins: how sure a model is of an image's true class, on a scale without ends.

A probability near 1 hides differences: 0.999 and 0.99999 look alike. Their margins, 6.9 and 11.5,
do not, and over models that differ only in their seed margins are roughly normally distributed.
So all evidence by example is computed from them.

Shape suffixes: M models, N examples, K classes.
"""

import numpy as np
import numpy.typing as npt

LogitMargins = npt.NDArray[np.float64]  # (M, N)

LIMIT = 100.0  # of a margin; float32 outputs reach 103, where nothing but rounding is left
SMALLEST = 1e-45  # as in LiRA's code: about the smallest positive float32


def logit_margins(
    probs_MNK: npt.NDArray[np.float32], labels_N: npt.NDArray[np.int64]
) -> LogitMargins:
    """Return logit-scaled confidences of the true class, log p / (1 − p), in [−100, 100].

    1 − p is the sum of the other classes' outputs, because p itself is rounded to 1 long before
    they are rounded to 0.

    Args:
        probs_MNK: softmax outputs of M models, float32.
        labels_N: the true classes of N examples; of wrong labels those that models were trained
            with, because these are what is to be forgotten.

    Source: Carlini et al., S&P 2022, arXiv 2112.03570, section 6.

    Raises:
        ValueError: an output is not finite.
    """
    if not np.isfinite(probs_MNK).all():
        raise ValueError("a margin needs outputs that are finite")
    probs = probs_MNK.astype(np.float64)
    true_N = np.arange(len(labels_N)), labels_N
    right_MN = probs[:, true_N[0], true_N[1]]
    probs[:, true_N[0], true_N[1]] = 0.0
    wrong_MN = probs.sum(axis=2)
    odds_MN = np.log(right_MN + SMALLEST) - np.log(wrong_MN + SMALLEST)
    return np.asarray(np.clip(odds_MN, -LIMIT, LIMIT))


def require_models(unlearned_UN: LogitMargins, retrained_RN: LogitMargins, fewest: int) -> None:
    """Check that there are enough models of both kinds, with finite margins.

    Args:
        unlearned_UN: margins under unlearned models.
        retrained_RN: margins under retrained models.
        fewest: number of models of each kind that are needed.

    Raises:
        ValueError: too few models of a kind, no example, or a margin that is not finite.
    """
    for kind, found in (("unlearned", unlearned_UN), ("retrained", retrained_RN)):
        if len(found) < fewest:
            raise ValueError(f"{len(found)} {kind} models; {fewest} or more are needed")
        if not found.size or not np.isfinite(found).all():
            raise ValueError(f"margins of {kind} models must be finite, and of at least one image")


def packed(margins_MN: LogitMargins) -> npt.NDArray[np.float16]:
    """Return margins as they are stored: float16, a quarter of the memory.

    float16 reaches ±65,504, so a margin is never cut off by it, only rounded: by at most 0.0003
    near ±1, 0.004 near ±10 and 0.03 near ±100. Retrained models differ by 0.1 or more.

    Raises:
        ValueError: a margin is not in [−100, 100], or NaN.
    """
    if not (np.abs(margins_MN) <= LIMIT).all():  # also if one is NaN
        raise ValueError(f"margins must be in [-{LIMIT:g}, {LIMIT:g}]")
    return margins_MN.astype(np.float16)
