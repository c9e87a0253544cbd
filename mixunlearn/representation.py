"""Representations: the input of a classifier's last layer.

Shape suffixes: N samples, B batch, E representation.
"""

import torch
from torch import Tensor, nn

from mixunlearn.data.batches import Samples
from mixunlearn.errors import InputError
from mixunlearn.models import StagedModel

BATCH = 256


def classifier(model: nn.Module) -> nn.Linear:
    """Return the layer that turns representations into logits: the last linear layer.

    Raises:
        InputError: the model has no linear layer.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        remedy = "has no linear layer, and the method needs its input; choose another model"
        raise InputError("model.name", type(model).__name__, remedy)
    # `modules` follows the order of definition, in which the classifier comes last.
    return layers[-1]


def representation(model: StagedModel, images: Tensor) -> Tensor:
    """Return the input of the model's classifier, shape (B, E)."""
    caught: list[Tensor] = []
    layer = classifier(model)
    # By a hook, because any model must work and `forward` returns only logits.
    with layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0])):
        model(images)
    return caught[0]


@torch.no_grad()
def representations(model: StagedModel, samples: Samples) -> Tensor:
    """Return the representations of all samples, shape (N, E); the model is in evaluation mode."""
    order = torch.arange(len(samples), device=samples.images_NCHW.device)
    parts = torch.split(order, BATCH)
    return torch.cat([representation(model, samples.batch(indices_B)) for indices_B in parts])
