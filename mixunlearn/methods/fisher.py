"""Fisher forgetting: add noise to the weights that the retain set does not need."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mixunlearn.methods.base import OneStep
from mixunlearn.methods.gradients import Weights, diagonal_fisher, mean_loss
from mixunlearn.signature import seed_for

TINY = 1e-8
MAX_CLASS_INVERSE = 1e2  # the same of parameters with one row a class
FORGOTTEN_VARIANCE = 1e-4
MAX_INVERSE = 1e3  # of the Fisher information, which is 0 for unused weights; the authors' value


@dataclass(kw_only=True)
class Fisher(OneStep):
    """Add Gaussian noise of variance `(α / F_r)^(1/2)` to each weight.

    `F_r` is the diagonal of the Fisher information of D_r. As variant "paper", it is that of the
    labels of D_r (the paper draws them from the model), and `1 / F_r` is bounded by 1e3.

    As variant "code", the noise is that of the authors' code. `F_r` is the mean over all labels, as
    probable as the original finds them. The variance is `α / F_r`, with the same bound, or 1e2 for
    parameters that have one row a class. It is averaged over the second axis of matrices and
    kernels. Vectors and parameters with one row a class have 10 times that variance. If whole
    classes are forgotten, their rows become noise of variance 1e-3 around 0.

    Args:
        alpha: α > 0; the paper's `λ·σ_h²`, or the factor of the code's variance (there 1e-6, 3e-6).
        variant: "paper" or "code".

    Source: Golatkar, Achille, Soatto, CVPR 2020, arXiv 1911.04933.
    """

    needs_labels = True

    alpha: float = 1e-9
    variant: str = "paper"

    @torch.no_grad()
    def apply(self) -> dict[str, Tensor]:
        """Add the noise, always the same; return the loss on D_r and the noise's mean deviation."""
        fisher = self.information()
        # On the CPU, so that the noise does not depend on the model's device.
        generator = torch.Generator().manual_seed(seed_for("noise", self.context.seed))
        deviations = []
        for name, weight in self.model.trained():
            inverse = (1 / (fisher[name] + TINY)).clamp(max=MAX_INVERSE)
            if self.variant == "code":
                deviation = self.code_variance(weight, inverse).sqrt()
            else:
                # The variance has the power 1/2, so the deviation has 1/4.
                deviation = (self.alpha * inverse) ** 0.25
            noise = torch.randn(weight.shape, generator=generator).to(weight.device)
            weight.add_(deviation * noise)
            deviations.append(deviation.flatten())
        return {
            "loss": mean_loss(self.model, self.context.retain),
            "noise": torch.cat(deviations).mean(),
        }

    def information(self) -> Weights:
        """Return the diagonal of the Fisher information of D_r."""
        retain = self.context.retain
        if self.variant != "code":
            return diagonal_fisher(self.model, retain)
        assert retain.probs_NK is not None
        by_class = [
            diagonal_fisher(
                self.model,
                replace(retain, labels_N=torch.full_like(retain.labels_N, label)),  # type: ignore[arg-type]
                retain.probs_NK[:, label],
            )
            for label in range(self.context.classes)
        ]
        return {name: torch.stack([each[name] for each in by_class]).sum(0) for name in by_class[0]}

    def code_variance(self, weight: Tensor, inverse: Tensor) -> Tensor:
        """Return the variance of a parameter's noise in the authors' code.

        A forgotten class's row of the last layer is set to 0 before the noise is added.

        Args:
            weight: the parameter.
            inverse: 1 / F_r, bounded.
        """
        of_classes = len(weight) == self.context.classes
        variance = self.alpha * (inverse.clamp(max=MAX_CLASS_INVERSE) if of_classes else inverse)
        if variance.dim() > 1:
            variance = variance.mean(dim=1, keepdim=True).expand_as(weight).clone()
        if of_classes:
            gone = list(self.context.forgotten)
            weight[gone], variance[gone] = 0, FORGOTTEN_VARIANCE
        return 10 * variance if of_classes or variance.dim() == 1 else variance
