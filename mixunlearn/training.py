"""Supervised training of original and reference models."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.data.batches import Samples, shuffled
from mixunlearn.errors import DivergedError
from mixunlearn.models import StagedModel
from mixunlearn.optimization import adam, take_step
from mixunlearn.precision import FLOAT32, Precision
from mixunlearn.signature import seed_for


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How originals and references are trained.

    Args:
        epochs: passes over the data, at least 1.
        lr: initial learning rate of Adam, > 0; it decreases to 0 along a cosine, epoch by epoch.
        batch: images in a step, at least 1.
        weight_decay: L2 penalty, at least 0.
    """

    epochs: int
    lr: float = 1e-3
    batch: int = 32
    weight_decay: float = 1e-4

    def rate(self, epochs_done: int) -> float:
        """Return the learning rate of the next epoch."""
        return self.lr * (1 + math.cos(math.pi * epochs_done / self.epochs)) / 2


class Training:
    """Training of one model, one epoch at a time; it can be checkpointed and resumed.

    Args:
        model: freshly initialised; trained in place.
        samples: with labels, on the model's device.
        recipe: hyperparameters of the training.
        seed: determines the order of the samples.
        precision: of each step.
    """

    def __init__(
        self,
        model: StagedModel,
        samples: Samples,
        recipe: Recipe,
        seed: int,
        *,
        precision: Precision = FLOAT32,
    ) -> None:
        self.model, self.samples, self.recipe = model, samples, recipe
        self.precision = precision
        self.optimizer = adam(model, recipe.lr, recipe.weight_decay)
        self.rng = np.random.default_rng(seed_for("training order", seed))
        self.epochs_done = 0

    @property
    def device(self) -> torch.device:
        """The device of the samples and the model."""
        return self.samples.images_NCHW.device

    def epoch(self) -> dict[str, float]:
        """Make one pass over the samples; return the mean cross entropy in nats as `loss`.

        Raises:
            DivergedError: the loss is not finite.
        """
        order = self.start_epoch()
        with self.precision.forward(self.device):
            losses = [self.step(indices_B) for indices_B in order]
        self.epochs_done += 1
        # Read once per epoch: reading a number in each step would stall a GPU.
        loss = torch.stack(losses).mean().item()
        if not math.isfinite(loss):
            raise DivergedError(f"loss = {loss}")
        return {"loss": loss}

    def start_epoch(self) -> list[Tensor]:
        """Set mode and learning rate; return the indices of each step, in random order."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.epochs_done)
        return shuffled(self.rng, len(self.samples), self.recipe.batch, self.device)

    def step(self, indices_B: Tensor) -> Tensor:
        """Take one step of cross entropy on a batch; return the loss in nats, detached."""
        logits = self.model(self.samples.batch(indices_B))
        loss = F.cross_entropy(logits, self.samples.labels(indices_B))
        take_step(loss, self.optimizer, precision=self.precision)
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next epoch depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.bit_generator.state,
            "epochs_done": self.epochs_done,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        self.epochs_done = state["epochs_done"]
