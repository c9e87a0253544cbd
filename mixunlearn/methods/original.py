"""The original model as it is: what doing nothing would leave."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.methods.base import OneStep


@dataclass(kw_only=True)
class Original(OneStep):
    """Change nothing: the floor that every method must rise above.

    Its `loss` is 0: it minimises nothing.
    """

    needs_labels = False

    def apply(self) -> dict[str, Tensor]:
        """Leave the weights as they are."""
        return {"loss": torch.zeros(())}
