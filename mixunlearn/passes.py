"""How many images pass through models: what work costs, whatever machine computes it.

Every classifier of this package (`StagedModel`) and the generator tell it how many images they
get. That is one addition of whole numbers in a call; nothing is read from the device. Small
networks over representations (the VAEs of LAF) are not counted.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(kw_only=True)
class Passes:
    """Images that have passed through models; an image that passes twice counts twice.

    Args:
        forward: through any model.
        backward: those of them whose gradients were recorded, to be propagated back. Gradients
            of gradients are not counted again.
    """

    forward: int = 0
    backward: int = 0

    def add(self, images: int, *, graded: bool) -> None:
        """Count images that have passed through a model.

        Args:
            images: their number.
            graded: whether gradients were recorded.
        """
        self.forward += images
        self.backward += images * graded

    def scaled(self, whole: int, part: int) -> "Passes":
        """Return those of a whole batch, if these are those of a part of it."""
        return Passes(forward=self.forward * whole // part, backward=self.backward * whole // part)

    @property
    def in_training(self) -> float:
        """How many images of a training cost as much: one pass back costs two forward."""
        return (self.forward + 2 * self.backward) / 3


_counted: ContextVar[Passes | None] = ContextVar("passes", default=None)


@contextmanager
def counted(passes: Passes | None) -> Iterator[None]:
    """Count the images that pass through models within a `with`; `None`: nobody counts."""
    token = _counted.set(passes)
    try:
        yield
    finally:
        _counted.reset(token)


def uncounted() -> AbstractContextManager[None]:
    """Let images pass that are none of the work, such as those on which a new model is tried."""
    return counted(None)


def passed(images: Tensor, output: Tensor) -> None:
    """Note that images, first axis B, have given an output; counted only within `counted`."""
    # What is compiled or recorded is replayed without Python: whoever replays it counts it.
    if torch.compiler.is_compiling():
        return
    passes = _counted.get()
    if passes is not None:
        passes.add(_number(images), graded=output.requires_grad)


def again(passes: Passes) -> None:
    """Count once more what a recorded step has counted, because it was replayed.

    Args:
        passes: of one run of the step.
    """
    now = _counted.get()
    if now is not None:
        now.forward += passes.forward
        now.backward += passes.backward


def _number(images: Tensor) -> int:
    """Return the number of images; within `torch.vmap`, of all that it computes together."""
    functorch = torch._C._functorch
    number = len(images)
    while functorch.is_functorch_wrapped_tensor(images):
        inner = functorch.get_unwrapped(images)
        if functorch.is_batchedtensor(images):
            number *= inner.shape[functorch.maybe_get_bdim(images)]
        images = inner
    return number
