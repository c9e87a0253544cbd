"""Machine unlearning: methods, data, models and metrics relative to retrained references.

Everything a user needs can be imported from here. Each name is loaded on first use, so that
`import mixunlearn` itself is fast.
"""

from typing import TYPE_CHECKING

from mixunlearn.lazy import exporter

if TYPE_CHECKING:
    from mixunlearn.data.arrow import Dataset, make_dataset
    from mixunlearn.data.batches import Samples
    from mixunlearn.data.sources import SOURCES, open_dataset
    from mixunlearn.errors import DivergedError, InputError, MissingError, MixUnlearnError
    from mixunlearn.generator import MixBlock
    from mixunlearn.losses import contrastive_ratio, sharpen, sim_loss
    from mixunlearn.methods import METHODS
    from mixunlearn.methods.base import Context, Method, OneStep
    from mixunlearn.models import MODELS
    from mixunlearn.models.staged import StagedModel
    from mixunlearn.problem import Architecture, Problem
    from mixunlearn.recipes import Recipe
    from mixunlearn.references import ReferenceStore
    from mixunlearn.release import __version__
    from mixunlearn.splits import Splits, make_splits
    from mixunlearn.store import Store
    from mixunlearn.trial import Trial
    from mixunlearn.unlearning import unlearn

_PLACES = {
    # Data, and which part of it must be forgotten.
    "SOURCES": "mixunlearn.data.sources",
    "open_dataset": "mixunlearn.data.sources",
    "Dataset": "mixunlearn.data.arrow",
    "make_dataset": "mixunlearn.data.arrow",
    "Splits": "mixunlearn.splits",
    "make_splits": "mixunlearn.splits",
    # Models, and the references that results are compared with.
    "MODELS": "mixunlearn.models",
    "StagedModel": "mixunlearn.models.staged",
    "Architecture": "mixunlearn.problem",
    "Recipe": "mixunlearn.recipes",
    "Store": "mixunlearn.store",
    "ReferenceStore": "mixunlearn.references",
    # A trained model of the user, in one call.
    "unlearn": "mixunlearn.unlearning",
    # Unlearning, and what is needed to write a method.
    "METHODS": "mixunlearn.methods",
    "Problem": "mixunlearn.problem",
    "Trial": "mixunlearn.trial",
    "Method": "mixunlearn.methods.base",
    "OneStep": "mixunlearn.methods.base",
    "Context": "mixunlearn.methods.base",
    "Samples": "mixunlearn.data.batches",
    # The parts of MixUnlearn.
    "MixBlock": "mixunlearn.generator",
    "contrastive_ratio": "mixunlearn.losses",
    "sharpen": "mixunlearn.losses",
    "sim_loss": "mixunlearn.losses",
    # Errors.
    "MixUnlearnError": "mixunlearn.errors",
    "InputError": "mixunlearn.errors",
    "MissingError": "mixunlearn.errors",
    "DivergedError": "mixunlearn.errors",
    "__version__": "mixunlearn.release",
}

__all__ = [
    "METHODS",
    "MODELS",
    "SOURCES",
    "Architecture",
    "Context",
    "Dataset",
    "DivergedError",
    "InputError",
    "Method",
    "MissingError",
    "MixBlock",
    "MixUnlearnError",
    "OneStep",
    "Problem",
    "Recipe",
    "ReferenceStore",
    "Samples",
    "Splits",
    "StagedModel",
    "Store",
    "Trial",
    "__version__",
    "contrastive_ratio",
    "make_dataset",
    "make_splits",
    "open_dataset",
    "sharpen",
    "sim_loss",
    "unlearn",
]

if not TYPE_CHECKING:  # a type checker must see only the names above
    __getattr__ = exporter(__name__, _PLACES)


def __dir__() -> list[str]:
    # Otherwise, dir() and completion would miss the names that are not loaded yet.
    return __all__
