"""Label-agnostic forgetting with repair: retrain the classifier with the labels of D_r."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.methods.base import Context, Stateful
from mixunlearn.methods.laf import Laf
from mixunlearn.representation import classifier, representation


@dataclass(kw_only=True)
class LafR(Laf):
    """LAF, and after each step a repair: one step of `CE(D_r)` on the last linear layer only.

    The paper repairs once, after the last epoch; here any epoch may be the last one.

    Args:
        lr_head: learning rate of Adam on that layer, > 0.

    Source: Shen et al., ICLR 2024, arXiv 2404.00506 (LAF+R).
    """

    needs_labels = True

    lr_head: float = 1e-4

    def prepare(self, context: Context) -> None:
        """Find the layer to repair."""
        super().prepare(context)
        self.head = classifier(self.model, context.forget)
        self.optimizer_head = self.stepper_for(self.head, self.lr_head)

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take LAF's steps and one repair step."""
        scalars = super().update(forget_B, retain_B)
        retain = self.context.retain
        # Only the classifier is repaired, so the layers before it need no gradient.
        with torch.no_grad():
            retain_BE = representation(self.model, self.images(retain, retain_B))
        loss = F.cross_entropy(self.head(retain_BE), retain.labels(retain_B))
        self.step(loss, optimizer=self.optimizer_head)
        return scalars | {"loss_head": loss.detach()}

    def parts(self) -> dict[str, Stateful]:
        """Return by name everything that training changes."""
        return super().parts() | {"optimizer_head": self.optimizer_head}
