"""Supervised training of original and reference models."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.acceleration import Steps
from mixunlearn.augmentation import augmented
from mixunlearn.chance import own_chance
from mixunlearn.data.batches import Samples, shuffled
from mixunlearn.errors import DivergedError
from mixunlearn.models import StagedModel
from mixunlearn.optimization import SGD, adam, take_step
from mixunlearn.parallel import agree
from mixunlearn.precision import Precision
from mixunlearn.recipes import Recipe
from mixunlearn.signature import seed_for


class Training:
    """Training of one model, one epoch at a time; it can be checkpointed and resumed.

    Args:
        model: freshly initialised; trained in place.
        samples: with labels, on the model's device.
        recipe: hyperparameters of the training.
        seed: determines the order of the samples, and what their augmentation and the model draw.
        precision: of each step; `None` is that of the recipe.
        capture: whether steps may be captured and replayed; see `mixunlearn.acceleration`.
    """

    def __init__(
        self,
        model: StagedModel,
        samples: Samples,
        recipe: Recipe,
        seed: int,
        *,
        precision: Precision | None = None,
        capture: bool = True,
    ) -> None:
        self.model, self.samples, self.recipe = model, samples, recipe
        self.precision = precision or Precision(name=recipe.precision)
        self.seed = seed
        self.optimizer = optimizer_of(model, recipe)
        self.rng = np.random.default_rng(seed_for("training order", seed))
        self.epochs_done = 0
        # A replayed step cannot read other images from a file.
        self.capture = capture
        self._steps = Steps("training", self.parts, self.rng, self.device, wanted=self.capture)

    def parts(self) -> dict[str, Any]:
        """Return by name everything that a step changes, except the random generator."""
        return {"model": self.model, "optimizer": self.optimizer}

    @property
    def device(self) -> torch.device:
        """The device of the samples and the model."""
        return self.samples.device

    def epoch(self) -> dict[str, float]:
        """Make one pass over the samples; return the mean cross entropy in nats as `loss`.

        With label smoothing, `loss` is that of the smoothed labels.

        Raises:
            DivergedError: the loss is not finite.
        """
        agree(self.parts().values())
        order = self.start_epoch()
        losses = []
        # What a model draws, such as dropout, must be the same again in a repeated epoch.
        chance = own_chance(seed_for("chance of training", self.seed, self.epochs_done))
        with chance, self.precision.forward(self.device):
            for number, indices_B in enumerate(order):
                if self.recipe.by_step:
                    self.set_rate(self.recipe.rate(self.epochs_done, number, len(order)))
                losses.append(self._steps.take(self.step, indices_B)["loss"])
        self.epochs_done += 1
        # Read once per epoch: reading a number in each step would stall a GPU.
        loss = torch.stack(losses).mean().item()
        if not math.isfinite(loss):
            raise DivergedError(f"loss = {loss}")
        return {"loss": loss}

    def start_epoch(self) -> list[Tensor]:
        """Set mode and learning rate; return the indices of each step, in random order."""
        self.model.train()
        self.set_rate(self.recipe.rate(self.epochs_done))
        return shuffled(self.rng, len(self.samples), self.recipe.batch, self.device)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def step(self, indices_B: Tensor) -> dict[str, Tensor]:
        """Take one step of cross entropy on a batch; return the loss in nats, detached."""
        plain = self.samples.batch(indices_B)
        logits = self.model(augmented(plain, self.recipe.augmentation, self.rng))
        labels_B, smoothing = self.samples.labels(indices_B), self.recipe.label_smoothing
        loss = F.cross_entropy(logits, labels_B, label_smoothing=smoothing)
        take_step(loss, self.optimizer, precision=self.precision)
        return {"loss": loss.detach()}

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
        self._steps.forget()
        self.rng.bit_generator.state = state["rng"]
        self.epochs_done = state["epochs_done"]


def optimizer_of(model: StagedModel, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe for all weights of a model."""
    if recipe.optimizer == "adam":
        return adam(model, recipe.lr, recipe.weight_decay)
    return SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
