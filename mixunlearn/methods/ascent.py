"""Gradient ascent on the forget set only."""

from dataclasses import dataclass

from torch import Tensor

from mixunlearn.methods.base import Method


@dataclass(kw_only=True)
class Ascent(Method):
    """Maximise `CE(D_f)`; the retain set is not used, so only small steps leave it intact.

    Deviation: Adam by default, whose steps do not grow with the gradient. SGD at a published rate
    is the search's second trial.

    Source: Golatkar et al., CVPR 2020, arXiv 1911.04933; Thudi et al., EuroS&P 2022,
        arXiv 2109.13398 (NegGrad).
    """

    needs_labels = True
    capturable = True
    passes_over = "forget"

    lr: float = 1e-5

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step that increases the cross entropy of the forget half of the batch."""
        loss = -self.cross_entropy(self.context.forget, forget_B)
        self.step(loss)
        return {"loss": loss.detach()}
