"""Functions that build a classifier, by name; PyTorch is imported only when one is found."""

import importlib

from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.lazy import load
from mixunlearn.models import MODELS, Factory

TORCHVISION = "torchvision:"  # prefix of the names of torchvision's models
PUBLISHED = "DEFAULT"  # name of the weights that torchvision publishes for a model


def find_factory(name: str) -> Factory:
    """Return the function that builds a model from channels=, size=, classes= and maybe width=.

    Args:
        name: a key of `MODELS`; `torchvision:NAME`; or `package.module:function`.

    Raises:
        InputError: there is no model with this name.
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
    except Exception as error:  # a user's module may raise any type
        raise InputError("model.name", name, f"cannot be imported ({first_line(error)})") from error
    return factory


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type if it has no text."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
