"""Optimizers, and the function that takes every optimizer step."""

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor

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
    optimizer.step()
