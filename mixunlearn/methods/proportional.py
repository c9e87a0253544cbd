"""Shared code of methods whose batches are drawn from D_f and D_r together.

Shape suffixes: N samples, B batch, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.data.batches import Samples, cut
from mixunlearn.data.streaming import upload
from mixunlearn.methods.base import Context, Method


@dataclass(kw_only=True)
class Proportional(Method, ABC):
    """Minimise the mean cross entropy over D_r and over samples that a subclass teaches for D_f.

    An epoch is one pass over both, in random order: each sample once. So a batch has as many of
    either as chance gives, and D_f weighs as much as it has samples.

    Args:
        batch: images of both sets in a step, at least 1.
    """

    needs_labels = True
    capturable = True

    def prepare(self, context: Context) -> None:
        """Compute what takes the place of D_f."""
        super().prepare(context)
        self.taught = self.teach(context)
        self.kept_N = self.keep(context)

    @abstractmethod
    def teach(self, context: Context) -> Samples:
        """Return the samples that take the place of D_f; they are the first indices of a step."""

    def keep(self, context: Context) -> Tensor:
        """Return the rows of D_r that an epoch passes over, on the CPU: all of them."""
        return torch.arange(len(context.retain))

    def passed_over(self) -> int:
        """Return the number of images that one epoch passes over."""
        return len(self.taught) + len(self.kept_N)

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the epoch's batches: indices of what is taught, and of D_r; one may be empty."""
        count, device = len(self.taught), self.context.device
        order_N = torch.from_numpy(self.rng.permutation(self.passed_over()))
        # Divided on the CPU: a GPU would have to wait for the size of each half.
        batches = cut(order_N, self.batch)
        taught = [places_B[places_B < count] for places_B in batches]
        kept = [self.kept_N[places_B[places_B >= count] - count] for places_B in batches]
        return zip(upload(taught, device), upload(kept, device), strict=True)

    def logits(self, forget_B: Tensor, retain_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unlearner's logits for each part of a batch, (B, K), from one pass."""
        halves = (self.taught, forget_B), (self.context.retain, retain_B)
        images = torch.cat([self.images(*half) for half in halves])
        first, second = self.model(images).split((len(forget_B), len(retain_B)))
        return first, second

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step; `loss_forget` and `loss_retain` are what each set adds to the loss."""
        logits = self.logits(forget_B, retain_B)
        labels = self.taught.labels(forget_B), self.context.retain.labels(retain_B)
        # Sums: the mean of an empty part is not a number.
        loss_forget, loss_retain = (
            F.cross_entropy(part_BK, labels_B, reduction="sum") / (len(forget_B) + len(retain_B))
            for part_BK, labels_B in zip(logits, labels, strict=True)
        )
        loss = loss_forget + loss_retain
        self.step(loss)
        return {
            "loss": loss.detach(),
            "loss_retain": loss_retain.detach(),
            "loss_forget": loss_forget.detach(),
        }
