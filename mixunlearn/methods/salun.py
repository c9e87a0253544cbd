"""Saliency unlearning: random labels, trained into the most salient weights for the forget set."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.methods.base import Context
from mixunlearn.methods.gradients import mean_gradient
from mixunlearn.methods.random_label import RandomLabel


@dataclass(kw_only=True)
class SalUn(RandomLabel):
    """Minimise `CE(D_f, random wrong labels) + CE(D_r)` over the most salient weights only.

    A weight's saliency is the absolute gradient of `CE(D_f)` at the original; all other weights
    keep their values.

    Args:
        fraction: share of the weights that may change, in (0, 1].

    Source: Fan et al., ICLR 2024, arXiv 2310.12508.
    """

    fraction: float = 0.5

    def prepare(self, context: Context) -> None:
        """Choose the weights once, before anything is changed."""
        super().prepare(context)
        gradient = mean_gradient(context.original, context.forget)
        self.gradient_masks = salient(gradient, self.fraction)


def salient(gradient: Mapping[str, Tensor], fraction: float) -> dict[str, Tensor]:
    """Return 1 where a gradient is among the largest in absolute value, else 0.

    Args:
        gradient: gradients by the weights' names, with W elements in total.
        fraction: share of the elements to choose, in (0, 1]; at least one is chosen, and all that
            are equal to the smallest chosen one.

    Returns:
        Masks by name, with the gradients' shapes.
    """
    sizes_W = torch.cat([value.abs().flatten() for value in gradient.values()])
    count = max(round(fraction * len(sizes_W)), 1)
    threshold = sizes_W.topk(count).values[-1]
    return {name: (value.abs() >= threshold).to(value) for name, value in gradient.items()}
