"""Influence unlearning: one second-order step towards the result of training without D_f."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mixunlearn.methods.base import OneStep
from mixunlearn.methods.gradients import Weights, dot, fisher_product, mean_gradient, mean_loss
from mixunlearn.signature import seed_for

SAMPLES = 1000  # images of D_r for the Fisher information, as in the authors' code
DAMPING = 1.0  # as in the authors' code, where the recursion starts from the identity
ITERATIONS = 100  # of the solver, at most
TOLERANCE = 1e-3  # residual at which it stops, relative to the right side


@dataclass(kw_only=True)
class Influence(OneStep):
    """Take the step `θ ← θ + α·(F_r + δ)⁻¹·(|D_f| / |D|)·(g_f − g_r)`.

    `g` are mean gradients of the cross entropy, and the Fisher information `F_r` of D_r replaces
    the Hessian; α = 1 is the influence function's own step. The paper inverts `F_r + δ` sample by
    sample (WoodFisher); here conjugate gradients solve the same system.

    Args:
        alpha: α > 0, length of the step.

    Source: Jia et al., NeurIPS 2023, arXiv 2304.04934 (IU); Koh, Liang, ICML 2017,
    arXiv 1703.04730; Izzo et al., AISTATS 2021, arXiv 2002.10077.
    """

    needs_labels = True

    alpha: float = 1.0

    @torch.no_grad()
    def apply(self) -> dict[str, Tensor]:
        """Take the step; return the loss on D_r afterwards, and the step's length."""
        step = solve(self.curvature(), self.pull())
        for name, weight in self.model.trained():
            weight.add_(self.alpha * step[name])
        return {
            "loss": mean_loss(self.model, self.context.retain),
            "step": self.alpha * dot(step, step).sqrt(),
        }

    def pull(self) -> Weights:
        """Return `(|D_f| / |D|)·(g_f − g_r)`: the contribution of D_f to the gradient of D."""
        forget, retain = self.context.forget, self.context.retain
        share = len(forget) / (len(forget) + len(retain))
        of_forget, of_retain = (mean_gradient(self.model, part) for part in (forget, retain))
        return {name: share * (of_forget[name] - of_retain[name]) for name in of_forget}

    def curvature(self) -> Callable[[Weights], Weights]:
        """Return `v ↦ (F_r + δ) v`, from at most `SAMPLES` images, always the same ones."""
        retain = self.context.retain
        # Not `self.rng`: every epoch starts from the original and must take the same step.
        rng = np.random.default_rng(seed_for("curvature", self.context.seed))
        drawn = np.sort(rng.permutation(len(retain))[:SAMPLES])
        indices_N = torch.from_numpy(drawn).to(self.context.device)
        product = partial(fisher_product, self.model, retain, indices_N)
        return lambda vector: _moved(product(vector), DAMPING, vector)


def solve(matrix: Callable[[Weights], Weights], right: Weights) -> Weights:
    """Return x with `A x = b`, by conjugate gradients.

    Args:
        matrix: `v ↦ A v`, symmetric and positive definite.
        right: b.
    """
    solution = {name: torch.zeros_like(value) for name, value in right.items()}
    residual, direction = right, right
    square = first = dot(right, right)
    for _ in range(ITERATIONS):
        if square <= TOLERANCE**2 * first:
            break
        image = matrix(direction)
        length = square / dot(direction, image)
        solution = _moved(solution, length, direction)
        residual = _moved(residual, -length, image)
        before, square = square, dot(residual, residual)
        direction = _moved(residual, square / before, direction)
    return solution


def _moved(start: Weights, length: float | Tensor, direction: Weights) -> Weights:
    return {name: value + length * direction[name] for name, value in start.items()}
