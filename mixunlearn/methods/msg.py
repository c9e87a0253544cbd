"""Masked small gradients: learn again what matters to neither set more than to the other."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mixunlearn.methods.base import Context
from mixunlearn.methods.finetune import Finetune
from mixunlearn.methods.gradients import mean_gradient
from mixunlearn.optimization import SGD
from mixunlearn.signature import seed_for

SLOWER = 0.1
MOMENTUM = 0.9


@dataclass(kw_only=True)
class MaskedSmallGradients(Finetune):
    """Reinitialise the convolution weights of smallest `|∇CE(D_r) − ∇CE(D_f)|`, then finetune.

    A share of each layer's weights is drawn again; its others learn at a tenth of the rate, all
    other layers at the whole one. The optimizer is SGD with momentum 0.9: Adam would undo any
    factor on the gradients.

    Deviations: the new weights are those of an untrained model of the kind, for a normal
    distribution; D_r's gradient is that of all of it, for as many images as D_f has; the rate is
    constant, for one that rises and falls over the epochs; there is no weight decay.

    Args:
        lr: learning rate of SGD, > 0.
        share: of each convolution's weights that are drawn again, in (0, 1).

    Source: an entry to the NeurIPS 2023 unlearning challenge; Cadet et al., arXiv 2410.01276 (MSG).
    """

    lr: float = 1e-3
    share: float = 0.3

    def prepare(self, context: Context) -> None:
        """Draw the chosen weights again, and slow the others of their layers down."""
        super().prepare(context)
        self.optimizer = SGD(self.model.parameters(), lr=self.lr, momentum=MOMENTUM)
        retain = mean_gradient(context.original, context.retain)
        forget = mean_gradient(context.original, context.forget)
        untrained = context.fresh(seed_for("new weights", context.seed)).to(context.device)
        for name, module in self.model.named_modules():
            if isinstance(module, nn.Conv2d):
                weight = f"{name}.weight"
                chosen = smallest((retain[weight] - forget[weight]).abs(), self.share)
                fresh = untrained.get_parameter(weight)
                module.weight.data[chosen] = fresh.data[chosen]
                self.gradient_masks[weight] = torch.where(chosen, 1.0, SLOWER)


def smallest(values: Tensor, share: float) -> Tensor:
    """Return where a share of the values lies that none of the others is below, bool."""
    order = values.flatten().argsort(stable=True)
    chosen = torch.zeros_like(order, dtype=torch.bool)
    chosen[order[: round(share * len(order))]] = True
    return chosen.reshape(values.shape)
