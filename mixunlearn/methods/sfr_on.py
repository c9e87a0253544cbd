"""SFR-on: forget with the salient weights, and repair after each step of forgetting.

Shape suffixes: N samples, B batch, K classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.data.batches import Samples, cycled, shuffled
from mixunlearn.host_values import number_from_host
from mixunlearn.methods.base import Context, settle
from mixunlearn.methods.gradients import Weights, batch_fisher
from mixunlearn.methods.scheduled import Scheduled
from mixunlearn.methods.schedules import set_rate
from mixunlearn.optimization import take_step
from mixunlearn.signature import seed_for

FLOOR = 1e-15  # of importances and losses, against division by zero


@dataclass(kw_only=True)
class SfrOn(Scheduled):
    """Minimise `CE(D_r)`; before every k-th of its steps, maximise `α_t·Σ_i w_i·CE_i` over D_f.

    The sum is over a batch of D_f, with `w_i ∝ CE_i^(−λ)`, `Σ w_i = 1`: images that are forgotten
    already count less. The gradient is kept only where `F_f ≥ γ·F_r`; these are the original's
    importances for D_f and D_r, mean squares of the gradients of mini-batches. Then it is cut to a
    length of at most `max_norm`. α_t and the learning rate fall from their first value to 0 as
    `(1 + cos(π·t/T)) / 2` over the T steps of the run. Steps of both kinds share one optimizer.

    We could not check the paper's equations themselves: this is its algorithm as in the authors'
    code, whose average of fast and slow weights has the weight 1 on the fast ones and is left out
    here. Deviations from the code: every epoch begins with a step of forgetting, and the rates
    follow epochs instead of the code's 1,500 steps.

    Args:
        lr: first learning rate, > 0.
        alpha: first α ≥ 0.
        lam: λ ≥ 0; 0 weighs all images alike.
        gamma: γ ≥ 0; the larger, the fewer weights forget.
        forget_every: k ≥ 1, steps on D_r for each step on D_f.
        max_norm: longest gradient of a step on D_f, > 0.
        decay_epochs: epochs until the rates are 0, at least 1; a search and `unlearn` take the
            number of epochs of the run unless it is given.
        optimizer: "sgd", as the authors have it, or "adam", for which α hardly matters.

    Source: Huang et al., NeurIPS 2024, arXiv 2409.19732.
    """

    needs_labels = True
    capturable = True
    course = "decay_epochs"

    lr: float = 0.01
    alpha: float = 25.0
    lam: float = 0.5
    gamma: float = 1.0
    forget_every: int = 5
    max_norm: float = 7.0
    decay_epochs: int = 10
    optimizer: str = "sgd"
    weight_decay: float = 5e-4

    def prepare(self, context: Context) -> None:
        """Choose the weights that forget, before anything is changed."""
        super().prepare(context)
        of_forget, of_retain = (
            batch_fisher(context.original, self.mini_batches(samples))
            for samples in (context.forget, context.retain)
        )
        self.masks = salient(of_forget, of_retain, self.gamma)

    def mini_batches(self, samples: Samples) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of all samples, in random order."""
        rng = np.random.default_rng(seed_for("importance", self.context.seed))
        for indices_B in shuffled(rng, len(samples), self.batch, self.context.device):
            yield samples.batch(indices_B), samples.labels(indices_B)

    def set_mode(self) -> None:
        """Put the unlearner into training mode."""
        super().set_mode()
        if self.forget_batch() == 1:
            settle(self.model)

    def forget_batch(self) -> int:
        """Return the number of images of D_f in a step."""
        return min(self.batch, len(self.context.forget))

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the epoch's batches; those of D_f are empty except before every k-th step."""
        context, size = self.context, self.forget_batch()
        retain = shuffled(self.rng, len(context.retain), self.batch, context.device)
        self.steps_of_epoch = len(retain)
        times = -(-len(retain) // self.forget_every)
        order_N = torch.from_numpy(cycled(self.rng, len(context.forget), times * size))
        forget = torch.split(order_N.to(context.device), size)
        for number, retain_B in enumerate(retain):
            turn, rest = divmod(number, self.forget_every)
            yield forget[turn] if not rest else retain_B[:0], retain_B

    def before_step(self) -> None:
        """Let the learning rate fall."""
        set_rate(self.stepper, self.lr * self.fall())

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take a step of forgetting, if it is time for one, and a step on D_r."""
        scalars = self.forget(forget_B) if len(forget_B) else {}
        loss = self.cross_entropy(self.context.retain, retain_B)
        self.step(loss)
        return {"loss": loss.detach(), **scalars}

    def fall(self) -> float:
        """Return the factor of both rates in this step, in [0, 1]."""
        passed = (self.epochs_done + self.step_number / self.steps_of_epoch) / self.decay_epochs
        return (1 + math.cos(math.pi * min(passed, 1))) / 2

    def forget(self, forget_B: Tensor) -> dict[str, Tensor]:
        """Take a step on D_f."""
        forget = self.context.forget
        logits_BK = self.model(self.images(forget, forget_B))
        losses_B = F.cross_entropy(logits_BK, forget.labels(forget_B), reduction="none")
        loss = (adaptive(losses_B.detach(), self.lam) * losses_B).sum()
        ascent = number_from_host(lambda: -self.alpha * self.fall(), self.context.device)
        # Not `self.step`: the gradient is cut as well.
        take_step(
            ascent * loss,
            self.stepper,
            precision=self.context.precision,
            gradient_masks=self.factors(),
        )
        return {"loss_forget": loss.detach()}

    def factors(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield weights with the factors of their gradients; asked for when these are known."""
        masked = [
            (weight, self.masks[name], (self.masks[name] * weight.grad).square().sum())
            for name, weight in self.model.trained()
            if weight.grad is not None
        ]
        length = torch.stack([square for _, _, square in masked]).sum().sqrt()
        shrunk = (self.max_norm / (length + 1e-6)).clamp(max=1)
        yield from [(weight, mask * shrunk) for weight, mask, _ in masked]


def adaptive(losses_B: Tensor, lam: float) -> Tensor:
    """Return weights proportional to `loss^(−λ)` that sum to 1, shape (B,)."""
    weights_B = 1 / (losses_B**lam + FLOOR)
    return weights_B / weights_B.sum()


def salient(of_forget: Weights, of_retain: Weights, gamma: float) -> Weights:
    """Return 1 where a weight matters γ times more to D_f than to D_r, or as much, else 0."""
    return {
        name: (value + FLOOR >= gamma * (of_retain[name] + FLOOR)).to(value)
        for name, value in of_forget.items()
    }
