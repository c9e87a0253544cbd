"""Sparse finetuning: drive small weights to zero, including those that only D_f needs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.host_values import number_from_host
from mixunlearn.methods.scheduled import Scheduled


@dataclass(kw_only=True)
class L1Sparse(Scheduled):
    """Minimise `CE(D_r) + γ_t·‖θ‖₁`; in epoch t = 0, 1, … `γ_t = γ·max(0, 1 − t/decay_epochs)`.

    The norm is over all weights. Deviation: Adam by default instead of the authors' SGD, so their γ
    does not apply there.

    Args:
        gamma: γ ≥ 0 of the first epoch.
        decay_epochs: epochs until the penalty is zero, at least 1; a search and `unlearn` take the
            number of epochs of the run, as the authors do, unless it is given.

    Source: Jia et al., NeurIPS 2023, arXiv 2304.04934.
    """

    needs_labels = True
    capturable = True
    course = "decay_epochs"

    gamma: float = 1e-4
    decay_epochs: int = 10

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step on the retain half of the batch."""
        loss_retain = self.cross_entropy(self.context.retain, retain_B)
        norm = torch.stack([weight.abs().sum() for _, weight in self.model.trained()]).sum()
        loss = loss_retain + number_from_host(self.factor, self.context.device) * norm
        self.step(loss)
        return {"loss": loss.detach(), "loss_retain": loss_retain.detach(), "l1": norm.detach()}

    def factor(self) -> float:
        """Return γ_t of the present epoch."""
        return self.gamma * max(0.0, 1 - self.epochs_done / self.decay_epochs)
