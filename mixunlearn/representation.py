"""Representations: the input of a classifier's last layer.

Shape suffixes: N samples, B batch, E representation, K classes.
"""

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from mixunlearn.data.batches import Samples
from mixunlearn.errors import InputError
from mixunlearn.models import StagedModel
from mixunlearn.parallel import divided

MATRIX = 2  # dimensions of representations and logits


@torch.no_grad()
def classifier(model: StagedModel, samples: Samples) -> nn.Linear:
    """Return the layer that turns representations into logits.

    Args:
        model: in evaluation mode.
        samples: at least one; the first is used to see which layer gives the logits.

    Raises:
        InputError: it is not a linear layer.
    """
    first = torch.zeros(1, dtype=torch.int64, device=samples.device)
    return _last_call(model, samples.batch(first))[0]


def representation(model: StagedModel, images: Tensor) -> Tensor:
    """Return the input of the model's classifier, shape (B, E).

    Raises:
        InputError: the classifier is not a linear layer.
    """
    # Divided here: inside of a model that several processes compute, there is only a part.
    (found_BE,) = divided(model, lambda part: (_last_call(model, part)[1],), images)
    return found_BE


@torch.no_grad()
def representations(model: StagedModel, samples: Samples) -> Tensor:
    """Return the representations of all samples, shape (N, E); the model is in evaluation mode."""
    parts = samples.in_order()
    return torch.cat([representation(model, samples.batch(indices_B)) for indices_B in parts])


def _last_call(model: StagedModel, images: Tensor) -> tuple[nn.Linear, Tensor]:
    """Return the linear layer that gives the logits, and its input.

    By hooks, because any model must work: `forward` returns only logits, and the layer that is
    defined or called last may be that of an auxiliary head. If the logits are no layer's output, as
    they are scaled for example, it is the layer that is called last.
    """
    calls: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        calls.append((layer, inputs[0], output))

    with ExitStack() as hooks:
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                hooks.enter_context(layer.register_forward_hook(note))
        logits_BK = model(images)
    giving = [call for call in calls if call[2] is logits_BK] or calls[-1:]
    for layer, caught_BE, _ in giving[-1:]:
        if caught_BE.ndim == MATRIX and layer.out_features == logits_BK.shape[1]:
            return layer, caught_BE
    remedy = "its last layer is not linear, and the method needs its input; choose another model"
    raise InputError("model.name", type(model).__name__, remedy)
