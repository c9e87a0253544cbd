"""What builds a classifier, by its name; without PyTorch until one is found."""

import importlib

from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.lazy import load
from mixunlearn.models import MODELS, Factory

TORCHVISION = "torchvision:"  # begins the name of a model of torchvision's
PUBLISHED = "DEFAULT"  # names the weights that torchvision publishes for a model


def find_factory(name: str) -> Factory:
    """Return what builds a model: called with channels=, size=, classes=, and width= if given.

    Args:
        name: a key of `MODELS`; `torchvision:NAME`; or `package.module:function`.

    Raises:
        InputError: there is none of this name.
    """
    if name in MODELS:
        return MODELS[name]
    if name.startswith(TORCHVISION):
        found: Factory = load("mixunlearn.models.torchvision:factory")(name)
        return found
    module, colon, function = name.partition(":")
    if not colon:
        remedy = f"unknown; {known_names(name, MODELS)}, torchvision:NAME, package.module:function"
        raise InputError("model.name", name, remedy)
    try:
        factory: Factory = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever happens in somebody's module
        raise InputError("model.name", name, f"cannot be imported ({first_line(error)})") from error
    return factory


def first_line(error: Exception) -> str:
    """Return what an error says first, or else its kind."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
