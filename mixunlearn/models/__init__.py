"""Image classifiers whose feature stages have names."""

from collections.abc import Callable, Mapping

import torch

from mixunlearn.errors import InputError
from mixunlearn.models.cnn import cnn
from mixunlearn.models.convnet import convnet
from mixunlearn.models.resnet import resnet18
from mixunlearn.models.staged import StagedModel

MODELS: Mapping[str, Callable[..., StagedModel]] = {
    "cnn": cnn,
    "convnet": convnet,
    "resnet18": resnet18,
}
SMALLEST_IMAGE = {"cnn": 4, "convnet": 8, "resnet18": 8}


def build_model(
    name: str, *, image_shape: tuple[int, int, int], classes: int, seed: int, width: int | None
) -> StagedModel:
    """Build a freshly initialised model.

    Args:
        name: a key of `MODELS`.
        image_shape: (channels, height, width) of the images.
        classes: number of outputs, at least 2.
        seed: seed of the initialisation, in [0, 2**63); equal seeds give equal weights.
        width: channels of the first stage; `None` is the model's own default.

    Raises:
        InputError: the images are too small for the model.
    """
    size = image_shape[1:]
    if min(size) < SMALLEST_IMAGE[name]:
        remedy = f"images of {size[0]}×{size[1]} are too small; take another model"
        raise InputError("model.name", name, remedy)
    # PyTorch's layers draw their weights from the global generator: lend it to them, no more.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        options = {} if width is None else {"width": width}
        model = MODELS[name](channels=image_shape[0], size=size, classes=classes, **options)
    # Convolutions are up to 1.6 times faster in this layout, on the CPU as on a GPU.
    return model.to(memory_format=torch.channels_last)


__all__ = ["MODELS", "StagedModel", "build_model"]
