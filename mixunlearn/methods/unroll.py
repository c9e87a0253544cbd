"""Unrolling SGD: take back what the forget set contributed to training, to first order."""

from dataclasses import dataclass

import torch

from mixunlearn.methods.base import Context
from mixunlearn.methods.finetune import Finetune
from mixunlearn.methods.gradients import mean_gradient
from mixunlearn.optimization import SGD


@dataclass(kw_only=True)
class Unroll(Finetune):
    """Descend on `CE(D_r)` for an epoch, then add `σ·lr/B·Σ ∇CE(x)` over D_f to the weights.

    The gradients are those at the original's weights, so the sum is what σ epochs of SGD there
    would take off for D_f. The paper unrolls the training that starts from the weights it adds to;
    here that is one epoch on D_r (method.md, section 8), and each further epoch does the same from
    where the last one left off, with the same gradient.

    Args:
        lr: learning rate of SGD, > 0: with Adam, steps and gradients would not add up.
        sigma: σ ≥ 0, epochs' worth of D_f's gradients.

    Source: Thudi et al., EuroS&P 2022, arXiv 2109.13398.
    """

    lr: float = 0.01
    sigma: float = 1.0

    def prepare(self, context: Context) -> None:
        """Record the gradient of the forget set."""
        super().prepare(context)
        self.optimizer = SGD(self.model.parameters(), lr=self.lr)
        self.gradient = mean_gradient(context.original, context.forget)

    def epoch(self) -> dict[str, float]:
        """Make one pass over D_r, then take D_f's contribution back."""
        scalars = super().epoch()
        steps = len(self.context.forget) / self.batch  # that SGD makes in one pass over D_f
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.add_(self.gradient[name], alpha=self.sigma * self.lr * steps)
        return scalars
