"""DSMixup: what a request affects is mixed into one shard, and trained once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.data.batches import Indices, cut, cycled
from mixunlearn.methods.mixture import draw_lambda
from mixunlearn.methods.shards import ShardedMethod
from mixunlearn.models import StagedModel


@dataclass(kw_only=True)
class DSMixup(ShardedMethod):
    """Minimise `λ·CE(x, y_i) + (1−λ)·CE(x, y_j)` with `x = λ·x_i + (1−λ)·x_j` across shards.

    The shards that held D_f become one: its images are mixtures of retained images of two of
    them, as many as the largest has, and one model replaces theirs. With A affected shards, a
    request costs about the A-th part of what SISA's does. A single one is retrained as it is.

    Only the method's abstract was at hand: affected shards are mixed together, and trained so.
    Which images are mixed, λ ~ Beta(α, α) and the new model's single vote are ours.

    Args:
        alpha: α > 0 of `λ ~ Beta(α, α)`, drawn again for each step.

    Source: the DSMixup of arXiv 2502.10288, openreview.net/forum?id=zYtW5Nz37V; mixup itself:
    Zhang et al., ICLR 2018, arXiv 1710.09412.
    """

    alpha: float = 1.0

    @property
    def replacements(self) -> int:
        """Return 1: one model replaces those of all affected shards."""
        return min(len(self.affected), 1)

    @property
    def images_retrained(self) -> int:
        """Return how many mixtures a pass shows: as many as the largest affected shard retains."""
        return max(map(len, self.affected), default=0)

    def retrain(self, members: Sequence[StagedModel]) -> list[Tensor]:
        """Train the one new model for one pass over mixtures."""
        return [
            torch.stack([self.step_on_mixtures(member, *pair) for pair in self.mixtures()])
            for member in members
        ]

    def step_on_mixtures(self, member: StagedModel, first_B: Tensor, second_B: Tensor) -> Tensor:
        """Take one step on mixtures of retained images; return the loss."""
        retain, lam = self.context.retain, draw_lambda(self.rng, self.alpha, self.context.device)
        logits = member(lam * retain.batch(first_B) + (1 - lam) * retain.batch(second_B))
        parts = (F.cross_entropy(logits, retain.labels(part_B)) for part_B in (first_B, second_B))
        losses = torch.stack(list(parts))
        loss = losses @ torch.stack((lam, 1 - lam)).to(losses.dtype)
        self.step(loss)
        return loss.detach()

    def mixtures(self) -> list[tuple[Tensor, Tensor]]:
        """Return a pass of batches: for each mixture, its two images as indices into D_r."""
        first, second = pair_up(self.rng, self.affected)
        device = self.context.device
        halves = (cut(torch.from_numpy(half).to(device), self.batch) for half in (first, second))
        return list(zip(*halves, strict=True))


def pair_up(rng: np.random.Generator, shards: Sequence[Indices]) -> tuple[Indices, Indices]:
    """Return pairs of images of different shards, as many as the largest shard has.

    The shards take turns to give the first image; the second is of another at random. With a
    single shard, each image is paired with itself.
    """
    length, count = max(map(len, shards)), len(shards)
    orders = np.stack([shard[cycled(rng, len(shard), length)] for shard in shards])
    places = np.arange(length)
    first = rng.permutation(length) % count
    further = rng.integers(1, count, size=length) if count > 1 else 0
    return orders[first, places], orders[(first + further) % count, places]
