"""All classifiers of timm, by their names there; timm is not a requirement of this project."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType

from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.models.factories import TIMM
from mixunlearn.models.wrapped import RGB, Wrapped


def factory(name: str) -> Callable[..., Wrapped]:
    """Return the function that builds an untrained model.

    Args:
        name: `timm:NAME`, for example `timm:resnet18`.

    Raises:
        InputError: timm is not installed, or has no model with this name.
    """
    try:
        timm = import_module("timm")  # optional, slow to import
    except ImportError as error:
        raise InputError("model.name", name, "needs timm: pip install timm") from error
    plain = name.removeprefix(TIMM)
    if plain not in (known := timm.list_models()):
        raise InputError("model.name", name, f"unknown; {known_names(plain, known)}")
    return partial(_build, timm, plain)


def _build(
    timm: ModuleType, name: str, *, channels: int, size: tuple[int, int], classes: int
) -> Wrapped:
    options = {"pretrained": False, "num_classes": classes, "in_chans": channels}
    try:
        # Position embeddings are built for one size of images; other models have no such option.
        network = timm.create_model(name, img_size=size, **options)
    except TypeError:
        network = timm.create_model(name, **options)
    known = network.pretrained_cfg
    # Pixels as for the published weights, which are of 3 channels.
    mean, sd = (known["mean"], known["std"]) if channels == RGB else ((0.5,), (0.5,))
    return Wrapped(network, (channels, *size), mean, sd)
