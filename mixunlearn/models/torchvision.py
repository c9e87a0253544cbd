"""All classifiers of torchvision, by their names there."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any

from torch import Tensor

from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError, MixUnlearnError
from mixunlearn.models.factories import TORCHVISION
from mixunlearn.models.wrapped import Wrapped


def factory(name: str) -> Callable[..., Wrapped]:
    """Return the function that builds a model.

    Args:
        name: `torchvision:NAME`, for example `torchvision:mobilenet_v3_small`.

    Raises:
        InputError: torchvision is not installed, or has no classifier with this name.
    """
    plain = name.removeprefix(TORCHVISION)
    models = _models(name)
    if plain not in (known := models.list_models(module=models)):
        raise InputError("model.name", name, f"unknown; {known_names(plain, known)}")
    return partial(_build, models, plain)


def published(name: str, key: str = "model.weights") -> Mapping[str, Tensor]:
    """Return torchvision's default weights of a model; they are downloaded if missing.

    Args:
        name: as for `factory`.
        key: the setting that asks for them, for the error.

    Raises:
        MixUnlearnError: they cannot be downloaded.
    """
    weights = _models(name).get_model_weights(name.removeprefix(TORCHVISION)).DEFAULT
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        remedy = "try again, or give a file instead"
        raise MixUnlearnError(f"{key}: {weights.url}: {error}; {remedy}") from error
    # DenseNet's published weights use old names of its layers.
    return {re.sub(r"(denselayer\d+\.\w+)\.([12])\.", r"\1\2.", key): state[key] for key in state}


def _build(
    models: ModuleType, name: str, *, channels: int, size: tuple[int, int], classes: int
) -> Wrapped:
    """Build an untrained model; pixels are normalised as for its published weights."""
    network = models.get_model(name, weights=None, num_classes=classes, **_options(name, size))
    pixels = models.get_model_weights(name).DEFAULT.transforms()
    return Wrapped(network, (channels, *size), pixels.mean, pixels.std, rgb=True)


def _models(name: str) -> ModuleType:
    try:
        from torchvision import models  # noqa: PLC0415 (optional, slow to import)
    except ImportError as error:
        remedy = "needs torchvision: pip install 'mixunlearn[tune]'"
        raise InputError("model.name", name, remedy) from error
    assert isinstance(models, ModuleType)
    return models


def _options(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return the options that some models need in addition to the number of classes."""
    # Their position embeddings are built for one size of images.
    if name.startswith("vit_"):
        return {"image_size": size[0]}
    if name.startswith("maxvit_"):
        return {"input_size": size}
    if name in {"googlenet", "inception_v3"}:
        # Without `init_weights`, torchvision warns that its default will change.
        return {"aux_logits": False, "init_weights": True}  # auxiliary heads add more outputs
    return {}
