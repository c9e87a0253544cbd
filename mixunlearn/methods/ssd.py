"""Selective synaptic dampening: shrink the weights that matter most to the forget set."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from mixunlearn.data.batches import Samples, shuffled
from mixunlearn.methods.base import OneStep
from mixunlearn.methods.gradients import Weights, batch_fisher, diagonal_fisher, mean_loss
from mixunlearn.signature import seed_for


@dataclass(kw_only=True)
class SSD(OneStep):
    """Multiply each weight with `I_f > α·I` by `min(λ·I / I_f, 1)`.

    The importances `I_f`, of D_f, and `I`, of all training images, are mean squares of gradients.
    As in the authors' code, to which their α = 10 belongs, these are gradients of mini-batches of
    64 images in random order.

    With `importance_batch=1` they are gradients of single images, as in the paper's equation: the
    diagonal of the Fisher information. D_f is part of the training images, so then
    `I_f ≤ |D| / |D_f| · I`, and an α above `|D| / |D_f|` changes nothing.

    Args:
        alpha: α > 0, how many times more important to D_f a weight must be.
        dampening: λ > 0; it should be below α, otherwise chosen weights hardly change.
        importance_batch: images in a mini-batch, at least 1.

    Source: Foster, Schoepf, Brintrup, AAAI 2024, arXiv 2308.07707.
    """

    needs_labels = True

    alpha: float = 10.0
    dampening: float = 1.0
    importance_batch: int = 64

    @torch.no_grad()
    def apply(self) -> dict[str, Tensor]:
        """Dampen weights; return the loss on D_r afterwards, and the share of chosen weights."""
        forget_importance, importance = self.importances()
        chosen = []
        for name, weight in self.model.trained():
            of_forget, of_all = forget_importance[name], importance[name]
            chosen.append((of_forget > self.alpha * of_all).flatten())
            # NaN (0 / 0) for weights that no image needs; they are not chosen below.
            factor = (self.dampening * of_all / of_forget).clamp(max=1)
            weight.mul_(torch.where(chosen[-1].view_as(weight), factor, 1))
        return {
            "loss": mean_loss(self.model, self.context.retain),
            "dampened": torch.cat(chosen).to(torch.float32).mean(),
        }

    def importances(self) -> tuple[Weights, Weights]:
        """Return `I_f` and `I` by the weights' names."""
        forget, retain = self.context.forget, self.context.retain
        if self.importance_batch > 1:
            of_forget = batch_fisher(self.model, self.mixed(forget))
            return of_forget, batch_fisher(self.model, self.mixed(forget, retain))
        of_forget, of_retain = (diagonal_fisher(self.model, part) for part in (forget, retain))
        share = len(forget) / (len(forget) + len(retain))
        return of_forget, {
            name: share * of_forget[name] + (1 - share) * of_retain[name] for name in of_forget
        }

    def mixed(self, *sets: Samples) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield mini-batches of images and labels, drawn from all sets together, each image once.

        A batch is ordered by sets, which does not change its mean.
        """
        # Not `self.rng`: every epoch starts from the original and must take the same step.
        rng = np.random.default_rng(seed_for("importance", self.context.seed))
        device = self.context.device
        ends = list(accumulate(map(len, sets)))
        for places_B in shuffled(rng, ends[-1], self.importance_batch, device):
            parts = []
            for samples, end in zip(sets, ends, strict=True):
                inside_B = places_B[(places_B < end) & (places_B >= end - len(samples))]
                own_B = inside_B - (end - len(samples))
                parts.append((samples.batch(own_B), samples.labels(own_B)))
            images, labels = zip(*parts, strict=True)
            yield torch.cat(images), torch.cat(labels)
