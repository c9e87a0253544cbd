"""How originals and references are trained, as data; some recipes of the literature by name.

It needs no PyTorch, so that an experiment is checked without it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.wording import counted

KEY = "references.recipe"
BASE = "base"  # key of a mapping: the named recipe that it changes
OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "constant", "steps", "one_cycle")
AUGMENTATIONS = ("none", "crop", "crop_flip", "random_resized_crop")
PRECISIONS = ("float32", "bfloat16")
FIRST = {"epochs", "lr", "batch", "weight_decay"}  # what recipes of the first version consist of
NEEDS = {  # what has an effect only with one choice of another key
    "momentum": ("optimizer", "sgd"),
    "nesterov": ("optimizer", "sgd"),
    "steps": ("schedule", "steps"),
    "step_factor": ("schedule", "steps"),
}
START, END = 1 / 25, 1 / 25e4  # of a one-cycle schedule, in units of its peak: PyTorch's defaults
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How originals and references are trained.

    Args:
        epochs: passes over the data, at least 1.
        lr: learning rate, > 0: the first one, or the largest one if it rises first.
        batch: images in a step, at least 1.
        weight_decay: L2 penalty, at least 0.
        optimizer: "adam" or "sgd".
        momentum: of SGD, in [0, 1).
        nesterov: whether SGD's momentum is Nesterov's.
        schedule: how the learning rate goes on. "cosine" decreases it to 0, epoch by epoch;
            "steps" multiplies it by `step_factor` at each of `steps`; "one_cycle" lets it rise
            during `warm_up`, then fall to nearly 0, both along a line and step by step.
        steps: shares of the epochs, increasing, in (0, 1); rounded down to whole epochs.
        step_factor: in (0, 1).
        warm_up: share of all steps in which the learning rate rises from nearly 0, in [0, 1).
        label_smoothing: share of each target that is spread over all classes, in [0, 1).
        augmentation: random changes of each image in each epoch; see `mixunlearn.augmentation`.
        precision: number format of the steps, one of `PRECISIONS`; weights are always float32.

    Raises:
        InputError: a value is out of range.
    """

    epochs: int
    lr: float = 1e-3
    batch: int = 32
    weight_decay: float = 1e-4
    optimizer: str = "adam"
    momentum: float = 0.9
    nesterov: bool = False
    schedule: str = "cosine"
    steps: tuple[float, ...] = ()
    step_factor: float = 0.1
    warm_up: float = 0.0
    label_smoothing: float = 0.0
    augmentation: str = "none"
    precision: str = "float32"

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        for name, (right, remedy) in RULES.items():
            if not right(value := getattr(self, name)):
                raise InputError(f"{KEY}.{name}", value, remedy)
        if self.schedule == "steps" and not self.steps:
            remedy = "must say when, as shares of the epochs, for example [0.5, 0.75]"
            raise InputError(f"{KEY}.steps", list(self.steps), remedy)
        if self.nesterov and not self.momentum:
            raise InputError(f"{KEY}.nesterov", True, "needs a momentum above 0")

    @property
    def content(self) -> dict[str, Any]:
        """Return what the trained weights depend on, as plain data, from which keys are computed.

        Keys of later versions are left out where they have their default or no effect, so that
        models of earlier versions are found.
        """
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default or field.name in FIRST
            if self.uses(field.name)
        }

    @property
    def words(self) -> str:
        """Return it in words, for reports."""
        others = {name: value for name, value in self.content.items() if name not in FIRST}
        said = [counted(self.epochs, "epoch"), f"lr {self.lr:g}"]
        return ", ".join([*said, *(f"{name} {value}" for name, value in others.items())])

    @property
    def by_step(self) -> bool:
        """Return whether the learning rate changes within an epoch."""
        return self.schedule == "one_cycle" or self.warm_up > 0

    @property
    def plain(self) -> bool:
        """Return whether an epoch is nothing but steps of Adam on plain images, at one rate."""
        usual = (self.optimizer, self.label_smoothing, self.precision) == ("adam", 0.0, "float32")
        return usual and not self.by_step and self.augmentation == "none"

    def uses(self, name: str) -> bool:
        """Return whether a key has an effect beside the others."""
        other, choice = NEEDS.get(name, ("", ""))
        return not other or getattr(self, other) == choice

    def rate(self, epochs_done: int, step: int = 0, steps: int = 1) -> float:
        """Return the learning rate of a step.

        Args:
            epochs_done: epochs before this one.
            step: number of the step in its epoch, from 0.
            steps: number of steps in an epoch.
        """
        done, total = epochs_done * steps + step, self.epochs * steps
        if self.schedule == "one_cycle":
            return self.lr * one_cycle(done, total, self.warm_up)
        risen = (done + 1) / max(round(self.warm_up * total), 1)
        return self.lr * self._level(epochs_done) * min(risen, 1.0)

    def _level(self, epochs_done: int) -> float:
        """Return the rate of an epoch in units of `lr`, without the warm-up."""
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * epochs_done / self.epochs)) / 2
        if self.schedule == "steps":
            at = [math.floor(share * self.epochs + ROUNDING) for share in self.steps]
            return self.step_factor ** sum(epoch <= epochs_done for epoch in at)
        return 1.0


def one_cycle(done: int, total: int, rise: float) -> float:
    """Return the rate of a step in units of the peak: up along a line, then down along another.

    As PyTorch's OneCycleLR with linear annealing.

    Args:
        done: steps before this one.
        total: number of all steps.
        rise: share of the steps until the peak, in [0, 1).
    """
    peak, last = max(rise * total - 1, 0.0), total - 1
    if done <= peak:
        return START + (1 - START) * (done / peak) if peak else 1.0
    return 1 + (END - 1) * (done - peak) / (last - peak)


KEYS = tuple(field.name for field in fields(Recipe))

Rule: TypeAlias = tuple[Callable[[Any], bool], str]


def _number(low: float, high: float = math.inf, *, whole: bool = False, low_too: bool) -> Rule:
    """Return the rule of a number below `high` and above `low`, or equal to it if `low_too`."""
    kinds = (int,) if whole else (int, float)

    def right(value: object) -> bool:
        # Not `isinstance`: True is an int.
        if type(value) not in kinds or not isinstance(value, int | float):
            return False
        return low < value < high or (low_too and value == low)

    what = "a whole number" if whole else "a finite number"
    at_least = "of at least" if low_too else "above"
    below = "" if high == math.inf else f" and below {high:g}"
    return right, f"must be {what} {at_least} {low:g}{below}"


def _one_of(names: tuple[str, ...]) -> Rule:
    return lambda value: value in names, f"must be one of {', '.join(names)}"


def _are_shares(value: object) -> bool:
    right, _ = _number(0, 1, low_too=False)
    if not isinstance(value, tuple) or not all(map(right, value)):
        return False
    return list(value) == sorted({*value})


RULES: Mapping[str, Rule] = {
    "epochs": _number(1, whole=True, low_too=True),
    "lr": _number(0, low_too=False),
    "batch": _number(1, whole=True, low_too=True),
    "weight_decay": _number(0, low_too=True),
    "optimizer": _one_of(OPTIMIZERS),
    "momentum": _number(0, 1, low_too=True),
    "nesterov": (lambda value: isinstance(value, bool), "must be true or false"),
    "schedule": _one_of(SCHEDULES),
    "steps": (_are_shares, "must be increasing shares of the epochs, between 0 and 1"),
    "step_factor": _number(0, 1, low_too=False),
    "warm_up": _number(0, 1, low_too=True),
    "label_smoothing": _number(0, 1, low_too=True),
    "augmentation": _one_of(AUGMENTATIONS),
    "precision": _one_of(PRECISIONS),
}

OURS = "ours"
RECIPES: Mapping[str, Recipe] = {
    OURS: Recipe(epochs=8),
    # Ours: a model of a few minutes' work on a CPU, in half of the epochs.
    "fast": Recipe(epochs=4, lr=4e-3, batch=64, schedule="one_cycle", warm_up=0.25),
    # Fan et al., ICLR 2024, arXiv 2310.12508: the defaults of their code for CIFAR, compared value
    # by value. Many later papers on unlearning use the same ones. SVHN is not augmented there.
    "salun182": Recipe(
        epochs=182,
        lr=0.1,
        batch=256,
        weight_decay=5e-4,
        optimizer="sgd",
        schedule="steps",
        steps=(0.5, 0.75),  # epochs 91 and 136
        augmentation="crop_flip",
    ),
    # Shen et al., ICLR 2024, arXiv 2404.00506, appendix and code, compared value by value: CIFAR-10
    # and SVHN at 224 pixels with this augmentation; MNIST and Fashion-MNIST have none.
    "laf224": Recipe(
        epochs=20,
        lr=1e-4,
        batch=32,
        weight_decay=1e-4,
        schedule="constant",
        augmentation="random_resized_crop",
    ),
    # The tutorial of FFCV (docs.ffcv.io, CIFAR-10) for a ResNet-9, with Nesterov's momentum as in
    # DAWNBench's winner by Page (github.com/davidcpage/cifar10-fast). FFCV's code has plain
    # momentum, shifts of 2 pixels instead of 4, squares of 4 pixels cut out, and half precision.
    "resnet9_24": Recipe(
        epochs=24,
        lr=0.5,
        batch=512,
        weight_decay=5e-4,
        optimizer="sgd",
        nesterov=True,
        schedule="one_cycle",
        warm_up=5 / 24,
        label_smoothing=0.1,
        augmentation="crop_flip",
    ),
}


def is_function(given: object) -> bool:
    """Return whether a recipe names the user's own function, `package.module:function`."""
    return isinstance(given, str) and ":" in given


def make_recipe(given: str | Mapping[str, Any] | None) -> Recipe:
    """Return the recipe that a user has written.

    Args:
        given: a key of `RECIPES`; or a mapping of keys of a `Recipe`, on top of the recipe that it
            names as `base`; `None`, and a mapping without `base`, mean "ours".

    Raises:
        InputError: there is no such recipe or key, a value is out of range, or has no effect.
    """
    if given is None:
        return RECIPES[OURS]
    if isinstance(given, str):
        return _named(KEY, given)
    if not isinstance(given, Mapping):
        remedy = "must be the name of a recipe, a mapping, or package.module:function"
        raise InputError(KEY, given, remedy)
    base = _named(f"{KEY}.{BASE}", given[BASE]) if BASE in given else RECIPES[OURS]
    return _changed(base, {name: value for name, value in given.items() if name != BASE})


def _changed(base: Recipe, written: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other values; errors show them as they were written."""
    for name, value in written.items():
        if name not in KEYS:
            remedy = f"unknown key; {known_names(name, [BASE, *KEYS])}"
            raise InputError(f"{KEY}.{name}", value, remedy)
    changed = {name: _plain(name, value) for name, value in written.items()}
    try:
        recipe = Recipe(**{**asdict(base), **changed})
    except InputError as error:
        value = written.get(error.key.removeprefix(f"{KEY}."), error.value)
        raise InputError(error.key, value, error.remedy) from None
    for name, value in written.items():
        if not recipe.uses(name):
            other, choice = NEEDS[name]
            remedy = f"has no effect unless {other} is {choice}; leave it out"
            raise InputError(f"{KEY}.{name}", value, remedy)
    return recipe


def _named(key: str, name: object) -> Recipe:
    if not isinstance(name, str) or name not in RECIPES:
        raise InputError(key, name, f"unknown; {known_names(name, RECIPES)}")
    return RECIPES[name]


def _plain(name: str, value: object) -> object:
    """Return a value as a recipe keeps it: the same recipe, written in any way, has one key."""
    if isinstance(value, list):
        return tuple(value)
    whole = name in {"epochs", "batch"} or isinstance(value, bool)
    if whole or not isinstance(value, int):
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf
