"""Negative gradient: descend on the retain set, ascend on the forget set."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from mixunlearn.methods.base import Method


@dataclass(kw_only=True)
class NegGrad(Method):
    """Minimise `CE(D_r) − β·CE(D_f)`; a large β approaches pure gradient ascent.

    The authors minimise `α·CE(D_r) − (1−α)·CE(D_f)`, which is α times this with `β = (1−α)/α`:
    their α = 0.9999 is β = 1e-4, and α = 0.95 is about the default here.

    Deviation: both halves of a batch go through the model together, so batch norm sees their joint
    statistics; the authors' two passes normalise each half by its own.

    Args:
        beta: β ≥ 0, weight of the ascent.

    Source: Kurmanji et al., NeurIPS 2023, arXiv 2302.09880 (NegGrad+).
    """

    needs_labels = True
    capturable = True

    beta: float = 0.05

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step; both halves go through the model in one pass."""
        forget_logits, retain_logits = self.logits(forget_B, retain_B)
        retain_loss = F.cross_entropy(retain_logits, self.context.retain.labels(retain_B))
        forget_loss = F.cross_entropy(forget_logits, self.context.forget.labels(forget_B))
        loss = retain_loss - self.beta * forget_loss
        self.step(loss)
        return {
            "loss": loss.detach(),
            "loss_retain": retain_loss.detach(),
            "loss_forget": forget_loss.detach(),
        }
