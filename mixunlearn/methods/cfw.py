"""Confuse, finetune, weaken: noise on the first convolution, then weighted finetuning."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.methods.base import Context
from mixunlearn.methods.layers import matrices
from mixunlearn.methods.scheduled import Scheduled
from mixunlearn.methods.schedules import cosine, set_rate


@dataclass(kw_only=True)
class ConfuseFinetuneWeaken(Scheduled):
    """Add noise to the first layer's weights, then minimise `CE(D_r)` with weights of the classes.

    The noise is Gaussian: of standard deviation `confuse` before the first epoch, and of `weaken`
    before the last one. The first layer is the convolution or linear map that is defined first; in
    the ResNet of the challenge, the authors' code adds noise to this one only. An image of class c
    weighs `N / (C·N_c)`, with N_c of the N images of D_r in this class and C classes in D_r.

    By default SGD, as in the authors' code. The rate falls along a cosine, epoch by epoch.

    Deviation: the weights are those of the images. The benchmark's code multiplies the batch's mean
    cross entropy by its mean weight; the entry's own weights are 1 and 0.05 for the classes of its
    data.

    Args:
        lr: learning rate of the first epoch, > 0.
        confuse: standard deviation ≥ 0, in units of the weights.
        weaken: standard deviation ≥ 0, in units of the weights.
        schedule_epochs: epochs of the course, at least 1; a search and `unlearn` take the number of
            epochs of the run unless it is given.

    Source: an entry to the NeurIPS 2023 unlearning challenge; Cadet et al., arXiv 2410.01276 (CFW).
    """

    needs_labels = True
    capturable = True
    course = "schedule_epochs"

    lr: float = 7e-4
    batch: int = 64
    optimizer: str = "sgd"
    weight_decay: float = 5e-4
    confuse: float = 0.6
    weaken: float = 0.005
    schedule_epochs: int = 4

    def prepare(self, context: Context) -> None:
        """Add the first noise, and weigh the classes."""
        super().prepare(context)
        self.disturb(self.confuse)
        assert context.retain.labels_N is not None
        self.weights_K = balanced(context.retain.labels_N, context.classes)

    def epoch(self) -> dict[str, float]:
        """Make one pass over D_r at the epoch's rate; before the last one, add noise again."""
        if self.epochs_done > 0 and self.epochs_done == self.schedule_epochs - 1:
            self.disturb(self.weaken)
        set_rate(self.stepper, cosine(self.lr, self.epochs_done, self.schedule_epochs))
        return super().epoch()

    @torch.no_grad()
    def disturb(self, deviation: float) -> None:
        """Add noise to the weights of the first layer."""
        for weight, _ in matrices(self.model)[:1]:
            # On the CPU, so that the noise does not depend on the device.
            noise = torch.from_numpy(self.rng.standard_normal(weight.shape)).to(weight.dtype)
            weight.add_(deviation * noise.to(weight.device))

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step on the retain half of the batch."""
        retain = self.context.retain
        logits_BK, labels_B = self.model(self.images(retain, retain_B)), retain.labels(retain_B)
        losses_B = F.cross_entropy(logits_BK, labels_B, reduction="none")
        loss = (self.weights_K[labels_B] * losses_B).mean()
        self.step(loss)
        return {"loss": loss.detach()}


def balanced(labels_N: Tensor, classes: int) -> Tensor:
    """Return the weight `N / (C·N_c)` of each class, float32, shape (K,); 0 without an image.

    With these, the images of each of the C classes that occur weigh the same in total.
    """
    counts_K = labels_N.bincount(minlength=classes).float()
    there_K = counts_K > 0
    return there_K * len(labels_N) / (there_K.sum() * counts_K.clamp_min(1))
