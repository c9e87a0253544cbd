"""Image classifiers whose feature stages have names."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from mixunlearn.lazy import exporter
from mixunlearn.plugins import registry

if TYPE_CHECKING:
    from torch import nn

    from mixunlearn.models.build import build_model
    from mixunlearn.models.factories import find_factory
    from mixunlearn.models.pretrained import Pretrained
    from mixunlearn.models.staged import StagedModel

Factory: TypeAlias = "Callable[..., nn.Module]"

# Each is imported on first use, so that names can be checked without PyTorch.
MODELS: Mapping[str, Factory] = registry(
    {
        "cnn": "mixunlearn.models.cnn:cnn",
        "convnet": "mixunlearn.models.convnet:convnet",
        "resnet18": "mixunlearn.models.resnet:resnet18",
        "resnet34": "mixunlearn.models.resnet:resnet34",
        "resnet50": "mixunlearn.models.resnet:resnet50",
        "vit": "mixunlearn.models.vit:vit",
        "swin": "mixunlearn.models.swin:swin",
    },
    "mixunlearn.models",
)

__all__ = ["MODELS", "Factory", "Pretrained", "StagedModel", "build_model", "find_factory"]

if not TYPE_CHECKING:
    __getattr__ = exporter(
        __name__,
        {
            "Pretrained": "mixunlearn.models.pretrained",
            "StagedModel": "mixunlearn.models.staged",
            "build_model": "mixunlearn.models.build",
            "find_factory": "mixunlearn.models.factories",
        },
    )
