"""Unrolling SGD: undo the forget set's contribution to training, to first order."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from mixunlearn.methods.base import Context
from mixunlearn.methods.finetune import Finetune
from mixunlearn.methods.gradients import mean_gradient
from mixunlearn.optimization import SGD


@dataclass(kw_only=True)
class Unroll(Finetune):
    """Descend on `CE(D_r)` for an epoch, then add `σ·lr/B·Σ ∇CE(x)` over D_f to the weights.

    The gradients are those at the original's weights, so the sum is what σ epochs of SGD on D_f
    would subtract there. The paper unrolls the training that starts from the weights it adds to;
    here that is one epoch on D_r (method.md, section 8). Each further epoch does the same, starting
    from the result of the previous one, with the same gradient.

    Args:
        lr: learning rate of SGD, > 0; with Adam, steps are not sums of gradients.
        sigma: σ ≥ 0, how many epochs of D_f's gradients to undo.

    Source: Thudi et al., EuroS&P 2022, arXiv 2109.13398.
    """

    # Its formula holds for plain SGD alone, so these are not hyperparameters here.
    optimizer: ClassVar[str] = ""  # type: ignore[misc]
    weight_decay: ClassVar[float] = 0.0  # type: ignore[misc]

    lr: float = 0.01
    sigma: float = 1.0

    def prepare(self, context: Context) -> None:
        """Compute the gradient of the forget set."""
        super().prepare(context)
        self.gradient = mean_gradient(context.original, context.forget)

    def stepper_for(self, module: nn.Module, lr: float) -> torch.optim.Optimizer:
        """Return SGD without momentum."""
        return SGD(module.parameters(), lr=lr)

    def epoch(self) -> dict[str, float]:
        """Make one pass over D_r, then undo the contribution of D_f."""
        scalars = super().epoch()
        steps = len(self.context.forget) / self.batch  # of SGD in one pass over D_f
        with torch.no_grad():
            for name, weight in self.model.trained():
                # The mean gradient, once for each step of a pass: together lr/B times the sum.
                weight.add_(self.gradient[name], alpha=self.sigma * self.lr * steps)
        return scalars
