"""DSMixup: the shards that a request affects are mixed into one shard, which is trained once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.data.batches import Indices, cut, cycled
from mixunlearn.methods.base import settle
from mixunlearn.methods.mixture import draw_lambda
from mixunlearn.methods.shards import ShardedMethod
from mixunlearn.models import StagedModel


@dataclass(kw_only=True)
class DSMixup(ShardedMethod):
    """Minimise `λ·CE(x, y_i) + (1−λ)·CE(x, y_j)` with `x = λ·x_i + (1−λ)·x_j` across shards.

    The shards that held D_f become one shard. Its images are mixtures of retained images of two of
    these shards, as many as the largest of them has. One model replaces their models. With A
    affected shards, a request costs about 1/A of SISA's cost. A single affected shard is retrained
    without mixing.

    Only the abstract of the paper was available: it says that affected shards are mixed together
    and trained. Which images are mixed, λ ~ Beta(α, α), and that the new model has a single vote
    are ours.

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
        """Return the number of mixtures in a pass: the retained images of the largest shard."""
        return max(map(len, self.affected), default=0)

    def retrain(self, members: Sequence[StagedModel]) -> list[Tensor]:
        """Train the new model for one pass over mixtures."""
        return [self.fit_mixtures(member) for member in members]

    def fit_mixtures(self, member: StagedModel) -> Tensor:
        """Train a model for one pass over mixtures; return each step's loss."""
        step, kind = partial(self.step_on_mixtures, member), self.members.index(member)
        found = [self.run_step(step, *pair, kind=kind) for pair in self.mixtures()]
        return torch.stack([scalars["loss"] for scalars in found])

    def step_on_mixtures(
        self, member: StagedModel, first_B: Tensor, second_B: Tensor
    ) -> dict[str, Tensor]:
        """Take one step on mixtures of retained images; return the loss."""
        if len(first_B) == 1:
            settle(member)
        retain, lam = self.context.retain, draw_lambda(self.rng, self.alpha, self.context.device)
        first, second = self.images(retain, first_B), self.images(retain, second_B)
        logits = member(lam * first + (1 - lam) * second)
        parts = (F.cross_entropy(logits, retain.labels(part_B)) for part_B in (first_B, second_B))
        losses = torch.stack(list(parts))
        loss = losses @ torch.stack((lam, 1 - lam)).to(losses.dtype)
        self.step(loss)
        return {"loss": loss.detach()}

    def mixtures(self) -> list[tuple[Tensor, Tensor]]:
        """Return the batches of a pass: for each mixture, its two images as indices into D_r."""
        first, second = pair_up(self.rng, self.affected)
        device = self.context.device
        halves = (cut(torch.from_numpy(half).to(device), self.batch) for half in (first, second))
        return list(zip(*halves, strict=True))


def pair_up(rng: np.random.Generator, shards: Sequence[Indices]) -> tuple[Indices, Indices]:
    """Return pairs of images of different shards, as many as the largest shard has images.

    The shards take turns in giving the first image; the second image is from a random other shard.
    With a single shard, each image is paired with itself.
    """
    length, count = max(map(len, shards)), len(shards)
    orders = np.stack([shard[cycled(rng, len(shard), length)] for shard in shards])
    places = np.arange(length)
    first = rng.permutation(length) % count
    further = rng.integers(1, count, size=length) if count > 1 else 0
    # A distance of 1 to `count` - 1 never leads back to the first image's shard.
    return orders[first, places], orders[(first + further) % count, places]
