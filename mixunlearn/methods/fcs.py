"""Forget, contrast, strengthen: the entry that won the NeurIPS 2023 unlearning challenge.

Shape suffixes: B batch of D_f, R batch of D_r, K classes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.data.batches import shuffled
from mixunlearn.methods.base import Context, Stateful, settle
from mixunlearn.methods.scheduled import Scheduled
from mixunlearn.methods.schedules import cosine, set_rate

LEAST_RATE = 1e-6  # of the contrast, at the end of the run


@dataclass(kw_only=True)
class ForgetContrastStrengthen(Scheduled):
    """Make predictions on D_f uniform; then push D_f away from D_r and minimise `CE(D_r)` in turn.

    Forget, once: a pass over D_f that minimises `KL(uniform ‖ u)`. Then each epoch contrasts and
    strengthens. Contrast: steps on pairs of a batch of D_f and one of D_r, until one of the two
    sets has been passed over. With logits z, they minimise the mean over all pairs of
    `−log softmax_r(z_f·z_r / T)`, where z_r is constant. Strengthen: a pass over D_r that minimises
    `CE`.

    By default SGD, as in the authors' code. Its rate of the contrast falls along a cosine over the
    steps of the run, to 1e-6. `weight_decay` is that of the passes over D_r.

    Args:
        lr: learning rate of the passes over D_r, > 0; the authors' is 1e-3 for each 64 of `batch`.
        lr_uniform: learning rate of the first pass over D_f, > 0.
        lr_contrast: learning rate of the contrast at the beginning, > 0.
        temperature: T > 0 of the contrast.
        batch: images of D_r in a step.
        forget_batch: images of D_f in a step, at least 1.
        schedule_epochs: epochs of the contrast, at least 1; a search and `unlearn` take the number
            of epochs of the run unless it is given.

    Source: an entry to the NeurIPS 2023 unlearning challenge ("Fanchuan" in Triantafillou et al.,
        arXiv 2406.09073); Cadet et al., arXiv 2410.01276 (FCS).
    """

    needs_labels = True
    capturable = True
    course = "schedule_epochs"

    lr: float = 4e-3
    batch: int = 256
    optimizer: str = "sgd"
    weight_decay: float = 0.01
    lr_uniform: float = 5e-3
    lr_contrast: float = 3e-4
    temperature: float = 1.15
    forget_batch: int = 64
    schedule_epochs: int = 8

    def prepare(self, context: Context) -> None:
        """Build the unlearner and the optimizers of the two other losses."""
        super().prepare(context)
        self.uniform_stepper = self.stepper_for(self.model, self.lr_uniform)
        self.contrast_stepper = self.stepper_for(self.model, self.lr_contrast)
        for stepper in (self.uniform_stepper, self.contrast_stepper):
            for group in stepper.param_groups:
                group["weight_decay"] = 0.0

    def epoch(self) -> dict[str, float]:
        """Contrast and strengthen; before that, in the first epoch, forget."""
        if self.epochs_done == 0:
            self.forget()
        contrast = self.contrast()
        return {**super().epoch(), "loss_contrast": contrast}

    def forget(self) -> None:
        """Make one pass over D_f that makes its predictions uniform."""
        forget, device = self.context.forget, self.context.device
        self.set_mode_of_both()
        with self.context.precision.forward(device):
            for forget_B in shuffled(self.rng, len(forget), self.forget_batch, device):
                loss = from_uniform(self.model(self.images(forget, forget_B)))
                self.step(loss, optimizer=self.uniform_stepper)

    def contrast(self) -> float:
        """Push D_f away from D_r, until one of them has been passed over; return the mean loss."""
        forget, retain, device = self.context.forget, self.context.retain, self.context.device
        forget_batches = shuffled(self.rng, len(forget), self.forget_batch, device)
        retain_batches = shuffled(self.rng, len(retain), self.batch, device)
        steps = min(len(forget_batches), len(retain_batches))
        losses = []
        self.set_mode_of_both()
        with self.context.precision.forward(device):
            for number in range(steps):
                done = self.epochs_done + number / steps
                rate = cosine(self.lr_contrast, done, self.schedule_epochs, LEAST_RATE)
                set_rate(self.contrast_stepper, rate)
                batches = forget_batches[number], retain_batches[number]
                losses.append(self.run_step(self.repel, *batches)["loss"])
        return torch.stack(losses).mean().item()

    def repel(self, forget_B: Tensor, retain_R: Tensor) -> dict[str, Tensor]:
        """Take one step that pushes images of D_f away from images of D_r."""
        # Two passes, as in the authors' code: each half has its own batch statistics.
        forget_BK = self.model(self.images(self.context.forget, forget_B))
        with torch.no_grad():
            retain_RK = self.model(self.images(self.context.retain, retain_R))
        loss = repulsion(forget_BK, retain_RK, self.temperature)
        self.step(loss, optimizer=self.contrast_stepper)
        return {"loss": loss.detach()}

    def set_mode_of_both(self) -> None:
        """Put the unlearner into training mode for batches of D_f and of D_r."""
        self.set_mode()
        sizes = len(self.context.forget), self.forget_batch, len(self.context.retain), self.batch
        if min(sizes) == 1:
            settle(self.model)

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step of cross entropy on the retain half of the batch."""
        loss = self.cross_entropy(self.context.retain, retain_B)
        self.step(loss)
        return {"loss": loss.detach()}

    def parts(self) -> dict[str, Stateful]:
        """Return by name everything that training changes."""
        # The first pass's optimizer is not among them: it is used in the first epoch only.
        return super().parts() | {"contrast_optimizer": self.contrast_stepper}


def from_uniform(logits_BK: Tensor) -> Tensor:
    """Return `KL(uniform ‖ softmax(z))` in nats, mean of the batch: a scalar, at least 0."""
    classes = logits_BK.shape[1]
    return -torch.log_softmax(logits_BK, dim=1).mean() - math.log(classes)


def repulsion(forget_BK: Tensor, retain_RK: Tensor, temperature: float) -> Tensor:
    """Return the mean over all pairs (f, r) of `−log softmax_r(z_f·z_r / T)`, at least log R.

    Args:
        forget_BK: z_f, logits.
        retain_RK: z_r, logits.
        temperature: T > 0.
    """
    return -torch.log_softmax(forget_BK @ retain_RK.T / temperature, dim=1).mean()
