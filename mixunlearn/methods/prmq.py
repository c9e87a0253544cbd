"""Prune, reinitialise, match, quantise: retrain most weights, and be as certain as the original.

Shape suffixes: B batch, K classes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.methods.base import Context, Method
from mixunlearn.methods.layers import matrices
from mixunlearn.methods.msg import smallest
from mixunlearn.signature import seed_for

RARITY = -0.1  # exponent of a class's number of images in its weight


@dataclass(kw_only=True)
class PruneReinitializeMatchQuantize(Method):
    """Draw the smallest weights again, then minimise `CE_w(D_r) + (H(u) − H(original))²` on D_r.

    Pruned is a share of all weights and biases of convolutions and linear layers together: those of
    smallest absolute value. A pruned weight of a layer with n inputs is drawn again, uniformly from
    ±√(1/n), as an untrained one; a pruned bias is 0. H is the entropy in nats of the prediction for
    an image; its squared difference is averaged over the batch. CE_w weighs an image of a class
    with N_c images in D_r by `N_c^−0.1`, in a weighted mean.

    By default SGD, as in the authors' code; their constant rate is for 3.2 epochs.

    Deviations: the weights are rounded to float16 after each epoch, as any may be the last one; the
    authors round them once, at the end, and batch norm's statistics too.

    Args:
        share: share of the weights that are pruned, in (0, 1].

    Source: an entry to the NeurIPS 2023 unlearning challenge; Cadet et al., arXiv 2410.01276
        (PRMQ).
    """

    needs_labels = True
    capturable = True

    lr: float = 5e-4
    batch: int = 64
    optimizer: str = "sgd"
    weight_decay: float = 5e-4
    share: float = 0.99

    def prepare(self, context: Context) -> None:
        """Prune and draw again; weigh the classes."""
        super().prepare(context)
        self.prune()
        assert context.retain.labels_N is not None
        counts_K = context.retain.labels_N.bincount(minlength=context.classes).float()
        # A class of no image gets a weight that no image ever has.
        self.weights_K = counts_K.clamp_min(1) ** RARITY

    @torch.no_grad()
    def prune(self) -> None:
        """Draw the smallest weights again, and set the smallest biases to 0."""
        layers = matrices(self.model)
        flat = [part.flatten() for layer in layers for part in layer if part is not None]
        chosen = smallest(torch.cat(flat).abs(), self.share)
        rest = iter(torch.split(chosen, [len(part) for part in flat]))
        # On the CPU, so that the weights do not depend on the device.
        generator = torch.Generator().manual_seed(seed_for("new weights", self.context.seed))
        for weight, bias in layers:
            bound = 1 / math.sqrt(weight[0].numel())
            drawn = bound * (2 * torch.rand(weight.shape, generator=generator) - 1)
            place = next(rest).view_as(weight)
            weight.copy_(torch.where(place, drawn.to(weight.device), weight))
            if bias is not None:
                bias.masked_fill_(next(rest), 0.0)

    def epoch(self) -> dict[str, float]:
        """Make one pass over D_r, and round the weights."""
        scalars = super().epoch()
        with torch.no_grad():
            for _, weight in self.model.trained():
                weight.copy_(weight.half())
        return scalars

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step on the retain half of the batch."""
        retain = self.context.retain
        logits_BK = self.model(self.images(retain, retain_B))
        labels = F.cross_entropy(logits_BK, retain.labels(retain_B), self.weights_K)
        wanted_B = entropy(retain.probs(retain_B).clamp_min(torch.finfo(torch.float32).tiny).log())
        match = F.mse_loss(entropy(torch.log_softmax(logits_BK, dim=1)), wanted_B)
        loss = labels + match
        self.step(loss)
        return {
            "loss": loss.detach(),
            "loss_labels": labels.detach(),
            "loss_match": match.detach(),
        }


def entropy(log_probs_BK: Tensor) -> Tensor:
    """Return the entropy of each prediction in nats, from 0 to log K, shape (B,)."""
    return -(log_probs_BK.exp() * log_probs_BK).sum(dim=1)
