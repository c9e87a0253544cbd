"""Functions that build a classifier, by name; PyTorch is imported only when one is found."""

import importlib

from mixunlearn.border import IMPORT_S, code_of_others, limited
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.lazy import load
from mixunlearn.models import MODELS, Factory

TORCHVISION = "torchvision:"  # prefix of the names of torchvision's models
TIMM = "timm:"  # prefix of the names of timm's models
PUBLISHED = "DEFAULT"  # name of the weights that torchvision publishes for a model


def find_factory(name: str) -> Factory:
    """Return the function that builds a model from channels=, size=, classes= and maybe width=.

    Args:
        name: a key of `MODELS`; `torchvision:NAME`; `timm:NAME`; or `package.module:function`.

    Raises:
        InputError: there is no model with this name.
    """
    if name in MODELS:
        return MODELS[name]
    if name.startswith(TORCHVISION):
        found: Factory = load("mixunlearn.models.torchvision:factory")(name)
        return found
    if name.startswith(TIMM):
        of_timm: Factory = load("mixunlearn.models.timm:factory")(name)
        return of_timm
    module, colon, function = name.partition(":")
    if not colon:
        others = "torchvision:NAME, timm:NAME, package.module:function"
        remedy = f"unknown; {known_names(name, MODELS)}, {others}"
        raise InputError("model.name", name, remedy)

    def refusal(reason: str) -> InputError:
        return InputError("model.name", name, f"cannot be imported ({reason})")

    with code_of_others(refusal), limited(IMPORT_S):
        factory: Factory = getattr(importlib.import_module(module), function)
    return factory
