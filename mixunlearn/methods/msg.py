"""Masked small gradients: reset and relearn the weights that matter equally to D_f and D_r."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mixunlearn.methods.base import Context
from mixunlearn.methods.finetune import Finetune
from mixunlearn.methods.gradients import mean_gradient
from mixunlearn.methods.kernels import kernels
from mixunlearn.methods.scheduled import Scheduled
from mixunlearn.signature import seed_for

SLOWER = 0.1


@dataclass(kw_only=True)
class MaskedSmallGradients(Finetune, Scheduled):
    """Reinitialise the convolution weights with smallest `|∇CE(D_r) − ∇CE(D_f)|`, then finetune.

    A share of each convolution's weights is drawn again, from a normal distribution of variance
    `2 / (out · h · w)` (Kaiming, fan-out). Its other weights learn with a tenth of the learning
    rate, all other layers with the full rate. The optimizer is SGD with momentum 0.9, because Adam
    would cancel any factor on the gradients.

    The rate rises and falls: with E epochs, that of epoch t = 1, 2, … is `lr·t/A` up to the epoch
    `A = (E + 1) // 2`, and then `lr·(E + 1 − t) / (E + 1 − A)`. Later epochs have the last rate.

    Deviation: the gradient of D_r is the mean over all its images, and that of D_f the mean over
    D_f. The authors add up the gradients of batches, of D_f and of as many images of D_r.

    Args:
        lr: highest learning rate of SGD, > 0.
        share: share of each convolution's weights that is drawn again, in (0, 1).
        schedule_epochs: E ≥ 1; a search and `unlearn` take the number of epochs of the run unless
            it is given.
        weight_decay: L2 penalty ≥ 0, which the optimizer adds to the gradient.

    Source: an entry to the NeurIPS 2023 unlearning challenge; Cadet et al., arXiv 2410.01276 (MSG).
    """

    course = "schedule_epochs"

    lr: float = 1e-3
    share: float = 0.3
    schedule_epochs: int = 5
    weight_decay: float = 5e-4
    # Adam would cancel the factors on the gradients, so this is no hyperparameter here.
    optimizer: ClassVar[str] = "sgd"  # type: ignore[misc]

    def prepare(self, context: Context) -> None:
        """Draw the chosen weights again, and slow down the other weights of their layers."""
        super().prepare(context)
        retain = mean_gradient(context.original, context.retain)
        forget = mean_gradient(context.original, context.forget)
        # On the CPU, so that the weights do not depend on the device.
        generator = torch.Generator().manual_seed(seed_for("new weights", context.seed))
        for name, kernel in kernels(self.model).items():
            chosen = smallest((retain[name] - forget[name]).abs(), self.share)
            drawn = fan_out(kernel.shape, generator).to(kernel.device)
            kernel.data.copy_(torch.where(chosen, drawn, kernel.data))
            self.gradient_masks[name] = torch.where(chosen, 1.0, SLOWER)

    def epoch(self) -> dict[str, float]:
        """Make one pass over D_r at the epoch's learning rate."""
        for group in self.stepper.param_groups:
            group["lr"] = self.rate(self.epochs_done + 1)
        return super().epoch()

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, numbered from 1."""
        number, top = min(epoch, self.schedule_epochs), (self.schedule_epochs + 1) // 2
        if number <= top:
            return self.lr * number / top
        return self.lr * (self.schedule_epochs + 1 - number) / (self.schedule_epochs + 1 - top)


def fan_out(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return random weights of a kernel (out, in, h, w) with variance `2 / (out · h · w)`."""
    outputs = shape[0] * math.prod(shape[2:])
    return torch.randn(shape, generator=generator) * math.sqrt(2 / outputs)


def smallest(values: Tensor, share: float) -> Tensor:
    """Return a bool mask of the smallest values: the given share of all of them."""
    order = values.flatten().argsort(stable=True)
    chosen = torch.zeros_like(order, dtype=torch.bool)
    chosen[order[: round(share * len(order))]] = True
    return chosen.reshape(values.shape)
