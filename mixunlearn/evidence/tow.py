"""ToW, tug of war: forgetting, retaining and generalising like a retrained model, in one number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What ToW is computed from, of one model, each in percent.

    Args:
        forget: accuracy on the forget set; for ToW-MIA the share of its images that the attack
            by confidence calls non-members (`svc_mia`).
        retain: accuracy on retained training images.
        held_out: accuracy on images never trained on.
    """

    forget: float
    retain: float
    held_out: float


def tow(unlearned: Standing, retrained: Standing) -> float:
    """Return ToW, or ToW-MIA if `forget` is the attack's share; in [0, 1], 1 is best.

    The product of 1 − |difference| over forget, retain and held-out, as shares. The differences
    count in both directions: forgetting too much costs as much as forgetting too little.

    Source: Zhao et al., NeurIPS 2024, arXiv 2406.01257, equation 3; ToW-MIA: the authors' code.
    """
    differences = (
        unlearned.forget - retrained.forget,
        unlearned.retain - retrained.retain,
        unlearned.held_out - retrained.held_out,
    )
    return float(np.prod(1 - np.abs(differences) / 100))


def mean_tow(unlearned: Standing, retrained: Sequence[Standing]) -> float:
    """Return the mean ToW against each of several retrained models, in [0, 1].

    Retrained models differ from each other, so the ceiling is not 1 but what they have among
    themselves; see `own_tow`.

    Raises:
        ValueError: there is no retrained model.
    """
    if not retrained:
        raise ValueError("ToW needs a retrained model")
    return float(np.mean([tow(unlearned, each) for each in retrained]))


def own_tow(retrained: Sequence[Standing]) -> float:
    """Return the mean ToW of the retrained models against each other: the ceiling of `mean_tow`.

    Raises:
        ValueError: there are fewer than two retrained models.
    """
    if len(retrained) < 2:  # noqa: PLR2004
        raise ValueError("the ceiling of ToW needs two retrained models")
    return float(
        np.mean(
            [
                mean_tow(each, [*retrained[:i], *retrained[i + 1 :]])
                for i, each in enumerate(retrained)
            ]
        )
    )
