"""The unchanged original model: the result of doing nothing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.methods.base import OneStep


@dataclass(kw_only=True)
class Original(OneStep):
    """Change nothing: the baseline that every method must beat.

    Its `loss` is 0, because it minimises nothing.
    """

    needs_labels = False

    def apply(self) -> dict[str, Tensor]:
        """Return the loss; the weights do not change."""
        return {"loss": torch.zeros(())}
