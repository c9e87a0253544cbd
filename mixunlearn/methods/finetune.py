"""Finetuning on the retain set."""

from dataclasses import dataclass

from torch import Tensor

from mixunlearn.methods.base import Method


@dataclass(kw_only=True)
class Finetune(Method):
    """Minimise `CE(D_r)`, starting from the original model; forgetting only happens over time.

    Source: Golatkar et al., CVPR 2020, arXiv 1911.04933 (as a baseline).
    """

    needs_labels = True
    capturable = True

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step of cross entropy on the retain half of the batch."""
        loss = self.cross_entropy(self.context.retain, retain_B)
        self.step(loss)
        return {"loss": loss.detach()}
