"""Learning to unlearn: ascent on D_f, held by adversarial images and by important weights.

Shape suffixes: N images of D_f, A adversarial images, B batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.data.batches import Samples, cut, cycled
from mixunlearn.methods.base import Context, Method, settle
from mixunlearn.methods.gradients import Weights
from mixunlearn.methods.relabelling import random_wrong
from mixunlearn.models import StagedModel

BATCH = 256  # adversarial images that are made at a time
MOST = 5120  # adversarial images in all; the authors have as many for their largest D_f
TRAVEL = 2.5  # length of the attack's path in units of ε, as the authors' 100 steps of 0.1 at ε = 4


@dataclass(kw_only=True)
class LearningToUnlearn(Method):
    """Minimise `(−b_f·CE(D_f) + b_a·CE(A)) / (b_f + b_a) + λ/2·Σ (1 − Ω)·(θ − θ₀)²`; no D_r.

    A are adversarial images: images of D_f, moved by projected gradient descent until the original
    sees another class, drawn at random, which is their label. They stand for D_r near the decision
    boundary. Ω are the importances of the weights to D_f: mean absolute gradients of ‖logits‖ over
    mini-batches of D_f, scaled to [0, 1] in each tensor. So weights that D_f needs may move, and
    others are held at the original's θ₀. b_f and b_a are the images of D_f and of A in a step.

    An epoch passes over A once and repeats D_f as needed. The authors stop when no image of D_f is
    classified correctly. Here the search decides when to stop, so each image by itself stops to
    count in CE(D_f) while it is classified wrongly; otherwise the ascent would have no limit.

    By default SGD, as in the authors' code. Deviations: the attack has 10 longer steps by default
    instead of 100; the path is as long. At most 5120 adversarial images are made, as many as the
    authors' largest D_f of 256 images has; of a larger D_f, each image has fewer, or some none.
    Importances are computed in evaluation mode.

    Args:
        batch: adversarial images in a step, at least 1.
        forget_batch: images of D_f in a step, at least 1.
        adversaries: adversarial images for each image of D_f, at least 1.
        epsilon: ε > 0, the largest Euclidean distance of an adversarial image, in units of a
            pixel's range.
        attack_steps: steps of the attack, at least 1, each of length 2.5·ε / attack_steps.
        hold: λ ≥ 0.

    Source: Cha et al., AAAI 2024, arXiv 2301.11578 (L2UL).
    """

    needs_labels = True
    capturable = True

    lr: float = 1e-3
    batch: int = 256
    optimizer: str = "sgd"
    weight_decay: float = 1e-4
    forget_batch: int = 32
    adversaries: int = 20
    epsilon: float = 4.0
    attack_steps: int = 10
    hold: float = 1.0

    def prepare(self, context: Context) -> None:
        """Make the adversarial images, and measure the importances."""
        super().prepare(context)
        self.low, self.high = context.pixel_range
        self.adversarial = self.attack()
        order = torch.arange(len(context.forget), device=context.device)
        batches = (context.forget.batch(part) for part in torch.split(order, self.forget_batch))
        self.held = held(importances(context.original, batches))

    def attack(self) -> Samples:
        """Return adversarial images of D_f with the classes that they aim at."""
        context, forget = self.context, self.context.forget
        assert forget.labels_N is not None
        each = min(self.adversaries, max(MOST // len(forget), 1))
        chosen = np.tile(self.rng.permutation(len(forget))[:MOST], each)
        chosen_A = torch.from_numpy(chosen).to(context.device)
        own_A = forget.labels(chosen_A)
        aims_A = random_wrong(self.rng, own_A, context.classes, ())
        found = []
        for part in torch.split(torch.arange(len(chosen_A), device=context.device), BATCH):
            images = forget.batch(chosen_A[part])
            found.append(self.moved(images, aims_A[part]))
        return Samples(images_NCHW=torch.cat(found), labels_N=aims_A)

    def moved(self, images: Tensor, aims_B: Tensor) -> Tensor:
        """Return images within ε that the original sees as the classes aimed at."""
        low, high = self.low, self.high
        # Not 0: a channel may have the same value in all images.
        radius = (self.epsilon * (high - low)).clamp_min(torch.finfo(torch.float32).tiny)
        drawn = self.rng.standard_normal(images.shape, dtype=np.float32)
        start = torch.from_numpy(drawn).to(images.device)
        # Uniform in direction; a random distance of at most ε.
        lengths_B = self.rng.random(len(images), dtype=np.float32)
        shift = unit(start) * torch.from_numpy(lengths_B).to(images.device)[:, None, None, None]
        for _ in range(self.attack_steps):
            near = (images + radius * shift).clamp(low, high).requires_grad_()
            with torch.enable_grad():
                loss = F.cross_entropy(self.context.original(near), aims_B, reduction="sum")
            (slope,) = torch.autograd.grad(loss, near)
            shift = within(shift - TRAVEL / self.attack_steps * unit(slope))
            # The range of a pixel bounds the shift too, or it would leave the image.
            shift = ((images + radius * shift).clamp(low, high) - images) / radius
        return (images + radius * shift).clamp(low, high)

    def passed_over(self) -> int:
        """Return the number of adversarial images."""
        return len(self.adversarial)

    def set_mode(self) -> None:
        """Put the unlearner into training mode."""
        super().set_mode()
        if min(len(self.context.forget), self.forget_batch) == 1:
            settle(self.model)

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of D_f and of the adversarial images, one pass over these."""
        device, count = self.context.device, len(self.adversarial)
        order = torch.from_numpy(self.rng.permutation(count)).to(device)
        batches = cut(order, self.batch)
        size = min(self.forget_batch, len(self.context.forget))
        forget = cycled(self.rng, len(self.context.forget), size * len(batches))
        parts = torch.split(torch.from_numpy(forget).to(device), size)
        return zip(parts, batches, strict=True)

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step; `retain_B` are adversarial images."""
        of_forget = self.known(forget_B)
        # Plain images: a shift or a flip would take them away from where they were moved to.
        logits_BK = self.model(self.adversarial.batch(retain_B))
        of_adversarial = F.cross_entropy(logits_BK, self.adversarial.labels(retain_B))
        share = len(forget_B) / (len(forget_B) + len(retain_B))
        distance = self.distance()
        loss = (1 - share) * of_adversarial - share * of_forget + self.hold * distance
        self.step(loss)
        return {
            "loss": loss.detach(),
            "loss_forget": of_forget.detach(),
            "loss_adversarial": of_adversarial.detach(),
            "distance": distance.detach(),
        }

    def known(self, forget_B: Tensor) -> Tensor:
        """Return the mean cross entropy on D_f, where it is 0 for images classified wrongly."""
        forget = self.context.forget
        logits_BK, labels_B = self.model(forget.batch(forget_B)), forget.labels(forget_B)
        losses_B = F.cross_entropy(logits_BK, labels_B, reduction="none")
        known_B: Tensor = logits_BK.argmax(dim=1) == labels_B
        return (losses_B * known_B).mean()

    def distance(self) -> Tensor:
        """Return `Σ (1 − Ω)·(θ − θ₀)² / 2` over all trained weights."""
        original = self.context.original
        terms = [
            (self.held[name] * (weight - original.get_parameter(name)).square()).sum()
            for name, weight in self.model.trained()
        ]
        total: Tensor = torch.stack(terms).sum() / 2
        return total


def unit(shift: Tensor) -> Tensor:
    """Return shifts of images (B, C, H, W) with Euclidean length 1; one of length 0 stays."""
    return shift / lengths(shift).clamp_min(torch.finfo(torch.float32).tiny)


def within(shift: Tensor) -> Tensor:
    """Return shifts of images (B, C, H, W), the longer ones shortened to Euclidean length 1."""
    return shift / lengths(shift).clamp_min(1)


def lengths(shift: Tensor) -> Tensor:
    """Return the Euclidean lengths of shifts of images, shape (B, 1, 1, 1)."""
    found: Tensor = torch.linalg.vector_norm(shift, dim=(1, 2, 3), keepdim=True)
    return found


@torch.enable_grad()
def importances(model: StagedModel, batches: Iterator[Tensor]) -> Weights:
    """Return the mean over images of `|∇ mean ‖f(x)‖|`, the gradient being that of a mini-batch.

    Args:
        model: f, put into evaluation mode; its weights may be frozen.
        batches: at least one, of images.
    """
    weights = {name: value.detach().requires_grad_() for name, value in model.trained()}
    total = {name: torch.zeros_like(value) for name, value in weights.items()}
    count = 0
    for images in batches:
        logits = torch.func.functional_call(model.eval(), weights, (images,))
        norm = torch.linalg.vector_norm(logits, dim=1).mean()
        slopes = torch.autograd.grad(norm, [*weights.values()], materialize_grads=True)
        for name, slope in zip(weights, slopes, strict=True):
            total[name] += len(images) * slope.abs()
        count += len(images)
    return {name: value / count for name, value in total.items()}


def held(importances: Weights) -> Weights:
    """Return `1 − Ω`, with importances Ω scaled to [0, 1] in each tensor; 1 if all are equal."""
    found = {}
    for name, value in importances.items():
        least, most = value.aminmax()
        spread = (most - least).clamp_min(torch.finfo(value.dtype).tiny)
        found[name] = 1 - (value - least) / spread
    return found
