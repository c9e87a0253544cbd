"""The number format of a step's computations: float32, or bfloat16 by autocast."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.errors import InputError
from mixunlearn.recipes import PRECISIONS

FULL = PRECISIONS[0]


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How losses are computed and differentiated; weights are always float32.

    Every loss that an optimizer minimises is computed within `forward` and differentiated by
    `backward`. Evaluations are always in float32.

    Args:
        name: one of `PRECISIONS`.

    Raises:
        InputError: there is no such precision.
    """

    name: str = FULL

    def __post_init__(self) -> None:
        """Refuse an unknown name."""
        if self.name not in PRECISIONS:
            raise InputError("precision", self.name, f"unknown; choose {', '.join(PRECISIONS)}")

    def forward(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which models compute outputs and losses on a device."""
        if self.name == FULL:
            return nullcontext()
        # One context may span many steps: cached casts of weights would be those of the first.
        return torch.autocast(device.type, getattr(torch, self.name), cache_enabled=False)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a scalar to the weights it depends on; called within `forward`."""
        if self.name == FULL:
            loss.backward()  # type: ignore[no-untyped-call]
            return
        # A backward pass takes the precision of each operation from the forward pass.
        with torch.autocast(loss.device.type, enabled=False):
            loss.backward()  # type: ignore[no-untyped-call]


FLOAT32 = Precision()
