"""What the CPU makes for each step: random draws, learning rates, weights that follow a schedule.

A step that is captured and replayed (`mixunlearn.acceleration`) runs only what the device does. All
that is made on the CPU comes to the device through `from_host`, which remembers how it was made, so
that each replay gets new values.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Make = Callable[[], Tensor]


class HostValues:
    """The values of one captured step, in the order in which the step asks for them."""

    def __init__(self) -> None:
        self.places: list[tuple[Tensor, Make]] = []
        self.first: list[Tensor] = []
        self.inputs: list[tuple[Tensor, Tensor]] = []  # where an input is found, and the input

    def add(self, make: Make, device: torch.device) -> Tensor:
        """Return where a value is found in each replay; the value is not there yet."""
        value = make()
        # On the CPU, the value itself is the place: creating another one would be captured.
        place = value if device.type == "cpu" else torch.empty_like(value, device=device)
        self.places.append((place, make))
        self.first.append(value)
        return place

    def fill_first(self) -> None:
        """Put the values in their places that were made while the step was captured."""
        for (place, _), value in zip(self.places, self.first, strict=True):
            _put(place, value)
        self.first = []

    def fill(self) -> None:
        """Make new values and put them in their places."""
        with _of(self):
            for place, make in self.places:
                _put(place, make())


_present: HostValues | None = None  # of the step that is captured or replayed now
_captured = False


@contextmanager
def capturing(values: HostValues) -> Iterator[None]:
    """Let `from_host` remember what it is asked for within a block."""
    global _captured  # noqa: PLW0603 (see `_of`)
    _captured = True
    try:
        with _of(values):
            yield
    finally:
        _captured = False


@contextmanager
def _of(values: HostValues) -> Iterator[None]:
    global _present  # noqa: PLW0603 (the functions between here and a step need not know of it)
    _present = values
    try:
        yield
    finally:
        _present = None


def is_capturing() -> bool:
    """Return whether the step that is taken now is captured."""
    return _captured


def actual(value: Tensor) -> Tensor:
    """Return the input of the present step that a captured step finds in this place.

    Args:
        value: an input of a step, such as the indices of a batch; it is returned if it is no place.
    """
    pairs = [] if _present is None else _present.inputs
    return next((given for place, given in pairs if place is value), value)


def from_host(make: Make, device: torch.device) -> Tensor:
    """Return a value that is made on the CPU, on a device.

    Args:
        make: returns a new tensor on the CPU, in each step with the same shape and type. It may
            draw from a generator of NumPy and read attributes; it is called once in each step. What
            depends on inputs of the step gets them by `actual`.
        device: where the step is computed.
    """
    if _captured and _present is not None:
        return _present.add(make, device)
    # A pinned buffer is used again only after its copy has ended: PyTorch sees to that.
    return make().to(device, non_blocking=True)


def number_from_host(
    make: Callable[[], float], device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return a number that is computed on the CPU in each step, as a scalar tensor on a device."""
    return from_host(lambda: torch.tensor(make(), dtype=dtype), device)


def _put(place: Tensor, value: Tensor) -> None:
    if place.is_cuda:
        # From pinned memory the copy need not wait for the device, nor does the next step.
        place.copy_(value.pin_memory(), non_blocking=True)
    elif place is not value:
        place.copy_(value)
