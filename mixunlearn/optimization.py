"""The optimizers of models, methods and noise."""

from typing import TypeVar

import torch

AnyOptimizer = TypeVar("AnyOptimizer", bound=torch.optim.Optimizer)


def lean(kind: type[AnyOptimizer]) -> type[AnyOptimizer]:
    """Return one of PyTorch's optimizers without the compiler, whose import takes two seconds.

    Every new worker would pay them. The wrappers left out here do nothing but keep the compiler
    from following.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")
    plain = {name: getattr(kind, name) for name in names}
    plain = {name: getattr(verb, "__wrapped__", verb) for name, verb in plain.items()}
    return type(kind.__name__, (kind,), {**plain, "step": torch.no_grad()(plain["step"])})


Adam, SGD = lean(torch.optim.Adam), lean(torch.optim.SGD)


def adam(model: torch.nn.Module, lr: float, weight_decay: float = 0.0) -> torch.optim.Adam:
    """Return Adam as one fused kernel: a step of the small models is mostly overhead."""
    return Adam(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
