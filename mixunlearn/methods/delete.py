"""DELETE: the original's own predictions for D_f, without the class to be forgotten."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.methods.base import Context, Method, settle


@dataclass(kw_only=True)
class Delete(Method):
    """Minimise `KL(q ‖ u)` over D_f; D_r is not used.

    q is the original's softmax without the image's own class: its logit is −∞, so that the other
    probabilities keep their ratios and sum to 1. If labels are not available, the own class is the
    one that the original predicts (ours).

    Ours: if whole classes are forgotten, all of them are left out of q, not only the image's own.
    Deviation: Adam by default; the authors' SGD with momentum 0.9 is the search's second trial.

    Args:
        norms: "batch" trains in training mode, as the authors do by default; "fixed" keeps batch
            norm's statistics, which D_f alone would otherwise replace: an option of their code.

    Source: Zhou et al., CVPR 2025, arXiv 2503.23751.
    """

    needs_labels = False
    capturable = True
    passes_over = "forget"

    norms: str = "batch"

    def prepare(self, context: Context) -> None:
        """Compute the targets once."""
        super().prepare(context)
        forget = context.forget
        assert forget.probs_NK is not None
        labels_N = forget.labels_N
        own_N = forget.probs_NK.argmax(dim=1) if labels_N is None else labels_N
        self.targets_NK = without(forget.probs_NK, own_N, context.forgotten)

    def set_mode(self) -> None:
        """Put the unlearner into training mode, except for batch norms if they are fixed."""
        super().set_mode()
        if self.norms == "fixed":
            settle(self.model)

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step on the forget half of the batch."""
        logs_BK = torch.log_softmax(self.model(self.images(self.context.forget, forget_B)), dim=1)
        loss = F.kl_div(logs_BK, self.targets_NK[forget_B], reduction="batchmean")
        self.step(loss)
        return {"loss": loss.detach()}


def without(probs_NK: Tensor, own_N: Tensor, forgotten: Sequence[int]) -> Tensor:
    """Return probabilities without each sample's own class and without forgotten ones.

    Args:
        probs_NK: probabilities, rows sum to 1.
        own_N: the samples' own classes, int64.
        forgotten: other classes that get no probability.

    Returns:
        Shape (N, K); rows sum to 1.
    """
    # In log space: the others' probabilities may be too small to be divided by their sum.
    logs_NK = probs_NK.clamp_min(torch.finfo(probs_NK.dtype).tiny).log()
    logs_NK.scatter_(1, own_N[:, None], -torch.inf)
    logs_NK[:, list(forgotten)] = -torch.inf
    return torch.softmax(logs_NK, dim=1)
