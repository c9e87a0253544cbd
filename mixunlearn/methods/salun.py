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
    """Minimise `w·|D_f|/|D_r|·CE(D_f, random wrong labels) + CE(D_r)` over few weights only.

    They are the most salient ones; a weight's saliency is the absolute gradient of `CE(D_f)` at the
    original. All other weights keep their values, also with weight decay.

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

    def step(self, loss: Tensor, *, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Take one step that changes only the chosen weights."""
        super().step(loss, optimizer=optimizer)
        if self.weight_decay:
            self.restore()

    @torch.no_grad()
    def restore(self) -> None:
        """Undo the decay of the other weights, which the masks of the gradients do not stop."""
        for name, mask in self.gradient_masks.items():
            weight, old = self.model.get_parameter(name), self.context.original.get_parameter(name)
            weight.copy_(torch.where(mask.bool(), weight, old))


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
