"""Masked small gradients: reset and relearn the weights that matter equally to D_f and D_r."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.methods.base import Context
from mixunlearn.methods.finetune import Finetune
from mixunlearn.methods.gradients import mean_gradient
from mixunlearn.methods.kernels import kernels
from mixunlearn.optimization import SGD
from mixunlearn.signature import seed_for

SLOWER = 0.1
MOMENTUM = 0.9


@dataclass(kw_only=True)
class MaskedSmallGradients(Finetune):
    """Reinitialise the convolution weights with smallest `|∇CE(D_r) − ∇CE(D_f)|`, then finetune.

    A share of each convolution's weights is drawn again. Its other weights learn with a tenth of
    the learning rate, all other layers with the full rate. The optimizer is SGD with momentum 0.9,
    because Adam would cancel any factor on the gradients.

    Deviations: the new weights are those of an untrained model, not from a normal distribution; the
    gradient of D_r is over all its images, not over as many as D_f has; the rate is constant, it
    does not rise and fall over the epochs; there is no weight decay.

    Args:
        lr: learning rate of SGD, > 0.
        share: share of each convolution's weights that is drawn again, in (0, 1).

    Source: an entry to the NeurIPS 2023 unlearning challenge; Cadet et al., arXiv 2410.01276 (MSG).
    """

    lr: float = 1e-3
    share: float = 0.3

    def prepare(self, context: Context) -> None:
        """Draw the chosen weights again, and slow down the other weights of their layers."""
        super().prepare(context)
        self.optimizer = SGD(self.model.parameters(), lr=self.lr, momentum=MOMENTUM)
        retain = mean_gradient(context.original, context.retain)
        forget = mean_gradient(context.original, context.forget)
        untrained = context.fresh(seed_for("new weights", context.seed)).to(context.device)
        for name, kernel in kernels(self.model).items():
            chosen = smallest((retain[name] - forget[name]).abs(), self.share)
            kernel.data[chosen] = untrained.get_parameter(name).data[chosen]
            self.gradient_masks[name] = torch.where(chosen, 1.0, SLOWER)


def smallest(values: Tensor, share: float) -> Tensor:
    """Return a bool mask of the smallest values: the given share of all of them."""
    order = values.flatten().argsort(stable=True)
    chosen = torch.zeros_like(order, dtype=torch.bool)
    chosen[order[: round(share * len(order))]] = True
    return chosen.reshape(values.shape)
