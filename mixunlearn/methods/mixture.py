"""Shared code of methods that learn from mixtures of a forget and a retain image."""

from abc import ABC
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.data.batches import Indices, Samples
from mixunlearn.host_values import number_from_host
from mixunlearn.losses import contrastive_ratio, sharpen
from mixunlearn.methods.base import Context, Method


@dataclass(kw_only=True)
class MixtureMethod(Method, ABC):
    """Targets, pairing and λ of arXiv 2502.10288, sections 3 and 4.

    Args:
        alpha: α > 0 of `λ ~ Beta(α, α)`, drawn again for each mixture.
        sharpen_T: temperature of the targets if labels are not available, in (0, 1];
            1 does not sharpen.
        pairing: "any", or "different_class" for pairs of different (predicted) classes,
            if the forget set has such an image.
    """

    needs_labels = False
    capturable = True

    alpha: float = 0.75
    sharpen_T: float = 0.3
    pairing: str = "any"

    def prepare(self, context: Context) -> None:
        """Compute the targets once; they never change."""
        super().prepare(context)
        self.forget_targets_NK = targets(context.forget, context.classes, self.sharpen_T)
        self.retain_targets_NK = targets(context.retain, context.classes, self.sharpen_T)
        self.classes = None
        if self.pairing == "different_class":
            self.classes = (
                likely_classes(self.forget_targets_NK),
                likely_classes(self.retain_targets_NK),
            )

    def pairing_classes(self) -> tuple[Indices, Indices] | None:
        """Return the (predicted) classes if those of a pair must differ, else `None`."""
        return self.classes

    def draw_lambda(self) -> Tensor:
        """Return λ ~ Beta(α, α); see the function with the same name."""
        return draw_lambda(self.rng, self.alpha, self.context.device)

    def outputs(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Return `u(x)`, the unlearner's softmax, for batches of B images each, from one pass."""
        return torch.softmax(self.model(torch.cat(images)), dim=1).chunk(len(images))

    def mixed_loss(
        self, u_mix: Tensor, forget_B: Tensor, retain_B: Tensor, lam: Tensor, tau: float
    ) -> Tensor:
        """Return `R(u_mix, p_r, u_mix, p_f; 1−λ, λ, τ) / B`, the L_mix of section 4."""
        p_forget, p_retain = self.forget_targets_NK[forget_B], self.retain_targets_NK[retain_B]
        return contrastive_ratio(u_mix, p_retain, u_mix, p_forget, 1 - lam, lam, tau) / len(u_mix)

    def real_loss(
        self, u_forget: Tensor, u_retain: Tensor, forget_B: Tensor, retain_B: Tensor, tau: float
    ) -> Tensor:
        """Return `R(u_r, p_r, u_f, p_f; 1, 1, τ) / B`, the L_real of section 4."""
        p_forget, p_retain = self.forget_targets_NK[forget_B], self.retain_targets_NK[retain_B]
        return contrastive_ratio(u_retain, p_retain, u_forget, p_forget, 1, 1, tau) / len(u_retain)


def draw_lambda(rng: np.random.Generator, alpha: float, device: torch.device) -> Tensor:
    """Return λ ~ Beta(α, α) in [0, 1], a scalar tensor.

    It is float64, so that λ and 1 − λ are each rounded only once, when they are combined with
    float32. It is on the device, so that a step that was captured with one λ can run with another.

    Args:
        rng: the generator.
        alpha: α > 0.
        device: the device of the images.
    """
    return number_from_host(lambda: rng.beta(alpha, alpha), device, torch.float64)


def targets(samples: Samples, classes: int, temperature: float) -> Tensor:
    """Return `p(x)`: one-hot labels if they are known, else sharpened predictions.

    Args:
        samples: N samples, with labels or with the original model's probabilities.
        classes: C.
        temperature: of the sharpening, in (0, 1]; unused with labels.

    Returns:
        Shape (N, K), float32. Source: arXiv 2502.10288, section 3.
    """
    if samples.labels_N is not None:
        return F.one_hot(samples.labels_N, classes).to(torch.float32)
    assert samples.probs_NK is not None
    return sharpen(samples.probs_NK, temperature)


def likely_classes(targets_NK: Tensor) -> Indices:
    """Return each sample's class, or the class that the original model predicts."""
    classes: Indices = targets_NK.argmax(dim=1).cpu().numpy()
    return classes
