"""Shared code of methods that train the forget set on other classes than its own.

Shape suffixes: N samples, B batch, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.methods.base import Context, Method


@dataclass(kw_only=True)
class Relabelling(Method, ABC):
    """Minimise `w·|D_f|/|D_r|·CE(D_f, new labels) + CE(D_r, its targets)`.

    A subclass defines the targets. Deviation from most authors' code: both halves of a batch form
    one step of one pass over D_r; their code makes a pass over D_f and then one over D_r. At w = 1,
    D_f has the same weight in an epoch here and there. There, a D_f smaller than a batch is one
    step, so here it counts as a batch in |D_f|.

    Args:
        forget_weight: w > 0, how much an image of D_f counts beside one of D_r.
        new_labels: "fixed" draws a random wrong class for each image of D_f once; "redrawn" draws
            among all classes, the image's own included, again for each epoch, as most authors do.
    """

    capturable = True

    forget_weight: float = 1.0
    new_labels: str = "fixed"

    def prepare(self, context: Context) -> None:
        """Compute the targets of all samples."""
        super().prepare(context)
        forget_N, self.retain_targets_N = self.targets(context)
        self.forget_targets_N = forget_N.clone()

    def epoch(self) -> dict[str, float]:
        """Make one pass over D_r, if asked for with other labels of D_f than before."""
        if self.new_labels == "redrawn":
            drawn_N = self.rng.integers(self.context.classes, size=len(self.context.forget))
            # In place, because a captured step reads them where they are.
            self.forget_targets_N.copy_(torch.from_numpy(drawn_N))
        return super().epoch()

    @abstractmethod
    def targets(self, context: Context) -> tuple[Tensor, Tensor]:
        """Return the fixed classes of D_f, (N,), and the targets of D_r: classes, or (N, K)."""

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step; both halves go through the model in one pass."""
        forget_logits, retain_logits = self.logits(forget_B, retain_B)
        loss_forget = F.cross_entropy(forget_logits, self.forget_targets_N[forget_B])
        loss_retain = F.cross_entropy(retain_logits, self.retain_targets_N[retain_B])
        least = min(self.batch, len(self.context.retain))
        loss = self.forget_share(self.forget_weight, least) * loss_forget + loss_retain
        self.step(loss)
        return {
            "loss": loss.detach(),
            "loss_retain": loss_retain.detach(),
            "loss_forget": loss_forget.detach(),
        }


def random_wrong(
    rng: np.random.Generator, classes_N: Tensor, classes: int, forgotten: Sequence[int]
) -> Tensor:
    """Return a random wrong class for each sample; all wrong classes are equally likely.

    Args:
        rng: the generator.
        classes_N: the samples' own classes, int64.
        classes: K, the number of classes.
        forgotten: classes that are forgotten completely; they are never returned.

    Returns:
        Shape (N,), int64.
    """
    # The largest of independent uniform scores is a uniform choice among the classes.
    scores_NK = torch.from_numpy(rng.random((len(classes_N), classes)))
    return best_wrong(scores_NK.to(classes_N.device), classes_N, forgotten)


def best_wrong(scores_NK: Tensor, classes_N: Tensor, forgotten: Sequence[int]) -> Tensor:
    """Return the class with the highest score that is neither a sample's own nor forgotten.

    Args:
        scores_NK: finite.
        classes_N: the samples' own classes, int64.
        forgotten: classes that are forgotten completely.

    Returns:
        Shape (N,), int64; a sample's own class if all others are forgotten.
    """
    # Finite, unlike -inf for forgotten classes: a sample's own class is the last resort.
    lowest = torch.finfo(scores_NK.dtype).min
    wrong_NK = scores_NK.scatter(1, classes_N[:, None], lowest)
    wrong_NK[:, list(forgotten)] = -torch.inf
    return wrong_NK.argmax(dim=1)
