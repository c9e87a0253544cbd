"""Shared code of methods that train separate models on separate parts of the data."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.data.batches import Indices, shuffled
from mixunlearn.errors import InputError
from mixunlearn.methods.base import Context, Method, settle
from mixunlearn.models import StagedModel
from mixunlearn.models.ensemble import Ensemble
from mixunlearn.signature import seed_for

FEWEST = 2


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A part of the training images.

    Args:
        forget: its images that must be forgotten, as indices into D_f.
        retain: its images that stay, as indices into D_r.
    """

    forget: Indices
    retain: Indices


def deal(n_forget: int, n_retain: int, shards: int, seed: int) -> list[Shard]:
    """Distribute all training images at random to shards whose sizes differ by at most one.

    Args:
        n_forget: size of D_f.
        n_retain: size of D_r.
        shards: number of shards.
        seed: of the order.
    """
    order = np.random.default_rng(seed).permutation(n_forget + n_retain)
    return [
        Shard(forget=part[part < n_forget], retain=part[part >= n_forget] - n_forget)
        for part in np.array_split(order, shards)
    ]


@dataclass(kw_only=True)
class ShardedMethod(Method, ABC):
    """Exact unlearning: one model per shard; only shards that held images of D_f are retrained.

    No model sees an image of D_f or of another shard, so there is nothing to forget. The output is
    the mean of the models' softmax outputs.

    An epoch is one pass over the retained images of all shards, because the shards without images
    of D_f need a model too. In practice, these models would exist before the request. So a request
    costs the share `retrained_share` of training one model on D_r, and `time/unlearn_s`, which
    covers all shards, is an upper bound.

    Args:
        shards: S ≥ 2; all training images are distributed to them at random.
    """

    needs_labels = True
    capturable = True

    lr: float = 1e-3
    shards: int = 5

    def __post_init__(self) -> None:
        """Refuse a single shard, which would be one model for all images."""
        if self.shards < FEWEST:
            remedy = f"a single shard isolates nothing; use at least {FEWEST}"
            raise InputError("shards", self.shards, remedy)

    def prepare(self, context: Context) -> None:
        """Distribute the images; a shard without retained images gets no model."""
        seed = seed_for("shards", context.seed)
        dealt = deal(len(context.forget), len(context.retain), self.shards, seed)
        left = [shard for shard in dealt if len(shard.retain)]
        # Before `super().prepare`, which calls `start` with them.
        self.untouched = [shard.retain for shard in left if not len(shard.forget)]
        self.affected = [shard.retain for shard in left if len(shard.forget)]
        super().prepare(context)

    def start(self, context: Context) -> StagedModel:
        """Return untrained models: first for untouched shards, then those that are retrained.

        They share one optimizer: Adam does not change weights without a gradient.
        """
        seeds = (
            seed_for("initial weights", context.seed, number)
            for number in range(len(self.untouched) + self.replacements)
        )
        self.members = [context.initial(seed).to(context.device) for seed in seeds]
        return Ensemble(self.members)

    def epoch(self) -> dict[str, float]:
        """Make one pass over every shard; return the mean loss and the cost of a request.

        `images_retrained` is the number of images in a pass of the retrained models, `images_full`
        that of a pass over D_r, and `retrained_share` is their ratio.
        """
        self.set_mode()
        count, full = len(self.untouched), len(self.context.retain)
        with self.context.precision.forward(self.context.device):
            losses = [
                self.fit(member, shard)
                for member, shard in zip(self.members[:count], self.untouched, strict=True)
            ]
            losses += self.retrain(self.members[count:])
        return {
            "loss": torch.cat(losses).mean().item(),
            "retrained_share": self.images_retrained / full,
            "images_retrained": float(self.images_retrained),
            "images_full": float(full),
        }

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Do not call: no step uses a forget image."""
        raise NotImplementedError

    def fit(self, member: StagedModel, shard: Indices) -> Tensor:
        """Train a model for one pass over a shard; return each step's loss."""
        device = self.context.device
        indices_N = torch.from_numpy(shard).to(device)
        order = shuffled(self.rng, len(shard), self.batch, device)
        number = self.members.index(member)
        step = partial(self.step_on, member)
        found = [self.run_step(step, indices_N[places_B], kind=number) for places_B in order]
        return torch.stack([scalars["loss"] for scalars in found])

    def step_on(self, member: StagedModel, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step of cross entropy on retained images; return the loss."""
        if len(retain_B) == 1:
            settle(member)
        retain = self.context.retain
        loss = F.cross_entropy(member(self.images(retain, retain_B)), retain.labels(retain_B))
        self.step(loss)
        return {"loss": loss.detach()}

    @property
    @abstractmethod
    def replacements(self) -> int:
        """Return the number of models that replace those of the affected shards."""

    @property
    @abstractmethod
    def images_retrained(self) -> int:
        """Return the number of images in one pass of these models."""

    @abstractmethod
    def retrain(self, members: Sequence[StagedModel]) -> list[Tensor]:
        """Train these models for one pass; return for each model the losses of its steps."""
