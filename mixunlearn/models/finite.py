"""Whether the numbers in a model are numbers: NaN and infinity make every output worthless."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mixunlearn.errors import DivergedError

CHUNK = 2**24  # numbers that are looked at together; limits memory only


def require_finite(model: nn.Module) -> None:
    """Check the weights and buffers of a model.

    Raises:
        DivergedError: one is not finite. A buffer may hold −inf, as a mask of an attention does.
    """
    flaws = dict(_flaws(model))
    # All are read from the device at once.
    if flaws and torch.stack([*flaws.values()]).any():
        name = next(name for name, flawed in flaws.items() if flawed)
        raise DivergedError(f"{name} is not finite")


def all_finite(array: npt.NDArray[Any]) -> bool:
    """Return whether all numbers of an array are finite; it may be larger than the memory."""
    numbers = array.reshape(-1)
    starts = range(0, len(numbers), CHUNK)
    return all(bool(np.isfinite(numbers[start : start + CHUNK]).all()) for start in starts)


def _flaws(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, weight in model.named_parameters():
        yield name, ~torch.isfinite(weight).all()
    for name, buffer in model.named_buffers():
        yield name, (torch.isnan(buffer) | torch.isposinf(buffer)).any()
