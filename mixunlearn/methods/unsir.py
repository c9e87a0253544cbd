"""UNSIR: noise impairs the forgotten classes, then a part of D_r repairs the others."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.data.batches import pairs
from mixunlearn.methods.base import Context
from mixunlearn.methods.noise import Labelled, NoiseMethod


@dataclass(kw_only=True)
class UNSIR(NoiseMethod):
    """Minimise `CE(noise) + CE(part of D_r)` for an epoch, then `CE(part of D_r)`.

    The noise has the labels of the forgotten classes and maximises the original's error; no image
    of D_f is used.

    Deviation: a step has as many noise as retain images. The authors' code has one epoch of repair;
    here all later epochs repair.

    Args:
        share: share of D_r that is used, drawn at random, in (0, 1].

    Source: Tarun et al., TNNLS 2023, arXiv 2111.08947.
    """

    needs_labels = True

    share: float = 0.2

    def prepare(self, context: Context) -> None:
        """Learn the noise and draw the part of D_r."""
        super().prepare(context)
        size = max(round(self.share * len(context.retain)), 1)
        # Drawn here, so that a resumed trial draws the same part from its seed.
        part = self.rng.permutation(len(context.retain))[:size]
        self.part_N = torch.from_numpy(part).to(context.device)

    def passed_over(self) -> int:
        """Return the size of the part of D_r."""
        return len(self.part_N)

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of one pass over the part of D_r."""
        n_forget, n_part = len(self.context.forget), len(self.part_N)
        found = pairs(self.rng, n_forget, n_part, self.batch, self.context.device)
        return ((forget_B, self.part_N[places_B]) for forget_B, places_B in found)

    def kept(self, retain_B: Tensor) -> Labelled:
        """Return images of D_r with their labels."""
        return self.images(self.context.retain, retain_B), self.context.retain.labels(retain_B)
