"""Optimizers, and the function that takes every optimizer step."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from mixunlearn.host_values import is_capturing, number_from_host
from mixunlearn.precision import Precision

AnyOptimizer = TypeVar("AnyOptimizer", bound=torch.optim.Optimizer)


def lean(kind: type[AnyOptimizer]) -> type[AnyOptimizer]:
    """Return one of PyTorch's optimizers without the compiler, whose import takes two seconds.

    Otherwise, every new worker would spend these two seconds. The wrappers that are removed here
    only stop the compiler from tracing the optimizer.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")
    plain = {name: getattr(kind, name) for name in names}
    plain = {name: getattr(verb, "__wrapped__", verb) for name, verb in plain.items()}
    # The wrapper that was removed from `step` also switched autograd off.
    return type(kind.__name__, (kind,), {**plain, "step": torch.no_grad()(plain["step"])})


Adam, SGD = lean(torch.optim.Adam), lean(torch.optim.SGD)


def adam(model: torch.nn.Module, lr: float, weight_decay: float = 0.0) -> torch.optim.Adam:
    """Return Adam as one fused kernel, because a step of a small model is mostly overhead.

    The learning rate is a number, not a tensor. It is part of every checkpoint, and a float32
    tensor (the only type that the fused kernel accepts on a GPU) would round it.
    """
    return Adam(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)


def take_step(
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    precision: Precision,
    gradient_masks: Iterable[tuple[Tensor, Tensor]] = (),
) -> None:
    """Take one step of an optimizer down the gradient of a loss.

    Args:
        loss: a scalar, computed within `precision.forward`.
        optimizer: of the weights to change. The gradients of all its weights are cleared first.
        precision: how the loss is differentiated.
        gradient_masks: pairs of a weight and the factors, of the same shape, that its gradient is
            multiplied by; a weight without a gradient is skipped.
    """
    # None, not 0: Adam skips such weights; with a gradient of 0, its momentum would move them.
    optimizer.zero_grad(set_to_none=True)
    precision.backward(loss)
    for weight, mask in gradient_masks:
        if weight.grad is not None:
            weight.grad.mul_(mask)
    with _rates_from_host(optimizer):
        optimizer.step()


@contextmanager
def _rates_from_host(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """While a step is captured, let the optimizer read its learning rates from the device.

    Afterwards they are numbers again, as checkpoints have them. Only the fused kernels can read a
    rate from the device.
    """
    if not is_capturing():
        yield
        return
    asked = [dict(group) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group |= {"lr": _rate_from_host(group), "foreach": False, "fused": True}
        if "capturable" in group:
            group["capturable"] = True
    try:
        yield
    finally:
        for group, before in zip(optimizer.param_groups, asked, strict=True):
            group.update(before)


def _rate_from_host(group: dict[str, Any]) -> Tensor:
    """Return the learning rate that a group of weights will have in each replay."""
    weight: Tensor = group["params"][0]
    # The fused kernels take float32 on a GPU; on a CPU nothing need be rounded.
    dtype = torch.float32 if weight.is_cuda else torch.float64
    return number_from_host(lambda: float(group["lr"]), weight.device, dtype)
