"""The layers of a model, for methods that reset or disturb some of them."""

from collections.abc import Sequence

import torch
from torch import nn

from mixunlearn.methods.base import Context
from mixunlearn.methods.cf_k import split
from mixunlearn.models import StagedModel
from mixunlearn.signature import seed_for


def matrices(model: StagedModel) -> list[tuple[nn.Parameter, nn.Parameter | None]]:
    """Return the trained weight of each 2-d convolution and linear layer, and its trained bias.

    They are in the order of their definition, each once. Weights that are computed from other
    parameters, as those of weight norm are, are not among them.
    """
    trained = {id(weight) for _, weight in model.trained()}
    found: dict[int, tuple[nn.Parameter, nn.Parameter | None]] = {}
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            own = dict(module.named_parameters(recurse=False))
            weight, bias = own.get("weight"), own.get("bias")
            if weight is not None and id(weight) in trained:
                found[id(weight)] = weight, bias if id(bias) in trained else None
    return list(found.values())


def first_convolution(model: nn.Module) -> list[str]:
    """Return the name of the 2-d convolution that is defined first; nothing if there is none."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)][:1]


def last_layer(model: nn.Module) -> list[str]:
    """Return the names of the modules of the last layer: a linear map or a convolution."""
    last = {id(module) for module in split(model, 1)[1]}
    return [name for name, module in model.named_modules() if id(module) in last]


@torch.no_grad()
def renew(model: StagedModel, context: Context, names: Sequence[str]) -> None:
    """Let modules have the weights and statistics of an untrained model; what is frozen stays."""
    kept = {name: model.get_parameter(name).clone() for name in model.frozen}
    untrained = context.fresh(seed_for("new layers", context.seed)).to(context.device)
    for name in names:
        model.get_submodule(name).load_state_dict(untrained.get_submodule(name).state_dict())
    for name, weight in kept.items():
        model.get_parameter(name).copy_(weight)
