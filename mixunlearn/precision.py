"""The number format of a step's computations; a new precision is added only in this file."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.errors import InputError

PRECISIONS = ("float32",)


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How losses are computed and differentiated; weights are always float32.

    Every loss that an optimizer minimises is computed within `forward` and differentiated by
    `backward`. So a lower precision needs changes only here.

    Args:
        name: one of `PRECISIONS`.

    Raises:
        InputError: there is no such precision.
    """

    name: str = "float32"

    def __post_init__(self) -> None:
        """Refuse an unknown name."""
        if self.name not in PRECISIONS:
            raise InputError("precision", self.name, f"unknown; choose {', '.join(PRECISIONS)}")

    def forward(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which models compute outputs and losses on a device.

        One context may span many steps. So an autocast must not cache the weights that it casts,
        because they change from step to step.
        """
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a scalar to the weights it depends on.

        The caller is still within `forward`. An autocast must be exited here, because a backward
        pass takes the precision of each operation from the forward pass.
        """
        loss.backward()  # type: ignore[no-untyped-call]


FLOAT32 = Precision()
