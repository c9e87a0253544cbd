"""AMUN: forget images pull at a boundary that adversarial examples push towards them."""

from dataclasses import dataclass

import torch

from mixunlearn.data.batches import Samples
from mixunlearn.methods.adversarial import Attack
from mixunlearn.methods.base import Context
from mixunlearn.methods.proportional import Proportional
from mixunlearn.methods.scheduled import Scheduled


@dataclass(kw_only=True)
class Amun(Proportional, Scheduled):
    """Minimise the mean `CE` over D_f, D_r and D_A, in batches of all.

    D_A has an adversarial example for each image of D_f, with the wrong class that the original
    predicts for it: 50 steps of projected gradient ascent in an L2 ball, whose radius doubles until
    an example is found. They are computed once, against the original. An image and its example are
    close together but have different labels, so the unlearner becomes less sure of both.

    Ours: if whole classes are forgotten, no example has one of them as its class; an image without
    an example gets its likeliest wrong class. Deviation: Adam with a constant rate by default; the
    authors' SGD, whose rate falls to a tenth after each epoch, is the search's second trial.

    Args:
        with_forget: whether D_f itself is trained on, with its own labels, as in the paper; if not,
            only its examples are, which is a variant in the authors' code.
        radius: radius > 0 of the first ball, in units of a pixel's range.
        lr_decay: factor in (0, 1] of the learning rate after each epoch.

    Source: Ebrahimpour-Boroojeny et al., ICML 2025, arXiv 2503.00917.
    """

    with_forget: bool = True
    radius: float = 0.04
    lr_decay: float = 1.0

    def teach(self, context: Context) -> Samples:
        """Return the adversarial examples, after them D_f itself if asked for."""
        forget = context.forget
        attack = Attack(model=context.original, pixel_range=context.pixel_range, radius=self.radius)
        examples = attack.find(forget, context.forgotten)
        if not self.with_forget:
            return examples
        parts = [(each, part) for each in (examples, forget) for part in each.in_order()]
        return Samples(
            images_NCHW=torch.cat([each.batch(part) for each, part in parts]),
            labels_N=torch.cat([each.labels(part) for each, part in parts]),
        )

    def epoch(self) -> dict[str, float]:
        """Make one pass at the epoch's learning rate."""
        for group in self.stepper.param_groups:
            group["lr"] = self.lr * self.lr_decay**self.epochs_done
        return super().epoch()
