"""Fisher forgetting: add noise to the weights that the retain set does not need."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.methods.base import OneStep
from mixunlearn.methods.gradients import diagonal_fisher, mean_loss
from mixunlearn.signature import seed_for

TINY = 1e-8
MAX_INVERSE = 1e3  # of the Fisher information, which is 0 for unused weights; the authors' value


@dataclass(kw_only=True)
class Fisher(OneStep):
    """Add Gaussian noise of variance `(α / F_r)^(1/2)` to each weight.

    `F_r` is the diagonal of the Fisher information of D_r, with the labels of D_r (the paper
    draws them from the model); `1 / F_r` is bounded by 1e3. The authors' code also sets a
    forgotten class's row of the last layer to zero; here only noise is added.

    Args:
        alpha: α > 0, the paper's `λ·σ_h²`.

    Source: Golatkar, Achille, Soatto, CVPR 2020, arXiv 1911.04933.
    """

    needs_labels = True

    alpha: float = 1e-9

    @torch.no_grad()
    def apply(self) -> dict[str, Tensor]:
        """Add the noise, always the same; return the loss on D_r and the noise's mean deviation."""
        fisher = diagonal_fisher(self.model, self.context.retain)
        # On the CPU, so that the noise does not depend on the model's device.
        generator = torch.Generator().manual_seed(seed_for("noise", self.context.seed))
        deviations = []
        for name, weight in self.model.trained():
            inverse = (1 / (fisher[name] + TINY)).clamp(max=MAX_INVERSE)
            # The variance has the power 1/2, so the deviation has 1/4.
            deviation = (self.alpha * inverse) ** 0.25
            noise = torch.randn(weight.shape, generator=generator).to(weight.device)
            weight.add_(deviation * noise)
            deviations.append(deviation.flatten())
        return {
            "loss": mean_loss(self.model, self.context.retain),
            "noise": torch.cat(deviations).mean(),
        }
