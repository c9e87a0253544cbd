"""Selective synaptic dampening: shrink the weights that matter most to the forget set."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.methods.base import OneStep
from mixunlearn.methods.gradients import diagonal_fisher, mean_loss


@dataclass(kw_only=True)
class SSD(OneStep):
    """Multiply each weight with `I_f > α·I` by `min(λ·I / I_f, 1)`.

    The importances `I_f`, of D_f, and `I`, of all training images, are diagonals of the Fisher
    information. D_f is part of the training images, so `I_f ≤ |D| / |D_f| · I`: an α above
    `|D| / |D_f|` changes nothing. (The authors' code squares gradients of mini-batches instead of
    single images, which has no such limit.)

    Args:
        alpha: α > 0, how many times more important to D_f a weight must be.
        dampening: λ > 0; it should be below α, otherwise chosen weights hardly change.

    Source: Foster, Schoepf, Brintrup, AAAI 2024, arXiv 2308.07707.
    """

    needs_labels = True

    alpha: float = 10.0
    dampening: float = 1.0

    @torch.no_grad()
    def apply(self) -> dict[str, Tensor]:
        """Dampen weights; return the loss on D_r afterwards, and the share of chosen weights."""
        forget, retain = self.context.forget, self.context.retain
        forget_importance = diagonal_fisher(self.model, forget)
        retain_importance = diagonal_fisher(self.model, retain)
        share = len(forget) / (len(forget) + len(retain))
        chosen = []
        for name, weight in self.model.trained():
            of_forget = forget_importance[name]
            of_all = share * of_forget + (1 - share) * retain_importance[name]
            chosen.append((of_forget > self.alpha * of_all).flatten())
            # NaN (0 / 0) for weights that no image needs; they are not chosen below.
            factor = (self.dampening * of_all / of_forget).clamp(max=1)
            weight.mul_(torch.where(chosen[-1].view_as(weight), factor, 1))
        return {
            "loss": mean_loss(self.model, retain),
            "dampened": torch.cat(chosen).to(torch.float32).mean(),
        }
