"""Tries a model and a method on a few images of noise, before anything is trained.

Some models can only be evaluated, or lack the derivatives that a method needs. Without a rehearsal,
that would be found only after all originals and references are trained.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from mixunlearn.border import code_of_others
from mixunlearn.chance import own_chance
from mixunlearn.data.batches import Samples
from mixunlearn.errors import DivergedError, InputError
from mixunlearn.inference import predict
from mixunlearn.methods import METHODS
from mixunlearn.methods.base import Context, Method
from mixunlearn.models import StagedModel
from mixunlearn.models.finite import require_finite
from mixunlearn.own_recipe import OwnRecipe, OwnTraining
from mixunlearn.problem import Architecture
from mixunlearn.recipes import Recipe
from mixunlearn.training import Training

FEW, MORE = 4, 8  # images to forget at most, images to retain
# Hyperparameters that cost time but change no code path.
SMALL = {"batch": 4, "noise_steps": 2, "noise_images": 4, "attack_steps": 2, "adversaries": 2}
PROBABLE = 1e-4  # how far the sum of probabilities may be from 1


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What is tried.

    Args:
        architecture: of the model.
        method: a key of `METHODS`.
        hyperparameters: of the method, flat.
        stages: the model's feature stages from which the method may read.
        with_labels: whether the method may see labels.
        forgotten: the classes that are forgotten completely.
        forgets: number of images to forget, at least 1.
        recipe: the user's own training of originals and references, if there is one.
        further: other configurations of the method that a search is sure to try, each complete.
        chosen: words for the error message if it is such another configuration.
        augmentation: how training changes images; a key of `AUGMENTATIONS`.
    """

    architecture: Architecture
    method: str
    hyperparameters: Mapping[str, Any]
    stages: Sequence[str]
    with_labels: bool
    forgotten: Sequence[int]
    forgets: int
    recipe: OwnRecipe | None = None
    further: Sequence[Mapping[str, Any]] = ()
    chosen: str = ""
    augmentation: str = "none"

    def run(self) -> list[str]:
        """Train the model for a step, then unlearn for an epoch in each configuration.

        Returns:
            Warnings about the model.

        Raises:
            InputError: the model cannot be trained, or the method does not work with it.
        """
        model = self.architecture.build(0)
        warnings = self.train(model)
        self.unlearn_all(model)
        if self.recipe is not None:
            warnings += self.train_as_user(self.recipe)
        return warnings

    def train(self, model: StagedModel) -> list[str]:
        """Evaluate a model and train it for a step; return warnings.

        Raises:
            InputError: this does not work.
        """
        name = self.architecture.name
        if not any(True for _ in model.trained()):
            remedy = "has no weights that can be trained; choose another model"
            raise InputError("model.name", name, remedy)
        samples = self._samples(range(MORE))
        with _refused("model.name", name, "cannot be trained"):
            predict(model, samples.images_NCHW)
            found = doubts(model, samples.batch(torch.arange(MORE)))
            Training(model, samples, Recipe(epochs=1, batch=MORE), seed=0).epoch()
            predict(model, samples.images_NCHW)
        return [f"model.name = {name!r}: {doubt}" for doubt in found]

    def train_as_user(self, recipe: OwnRecipe) -> list[str]:
        """Train a fresh model by the user's own function, and evaluate it; return warnings.

        Raises:
            InputError: this does not work.
        """
        model = self.architecture.build(0)
        with _refused("references.recipe", recipe.function, "does not train this model"):
            OwnTraining(model, self._samples(range(MORE)), recipe, seed=0).epoch()
            require_finite(model)
        untrained = self.architecture.build(0).state_dict()
        if any(not torch.equal(now, untrained[key]) for key, now in model.state_dict().items()):
            return []
        # No error: a loader with `drop_last` takes no step on so few images.
        doubt = f"changed no weight on {MORE} images; it must train the model in place"
        return [f"references.recipe = {recipe.function!r}: {doubt}"]

    def unlearn_all(self, model: StagedModel) -> None:
        """Unlearn for an epoch in each configuration that is sure to be tried.

        Raises:
            InputError: the method does not work with the model.
        """
        for one in self._configurations():
            one.unlearn(model)

    def unlearn(self, model: StagedModel) -> Method:
        """Unlearn for an epoch and evaluate the result; return the method.

        Raises:
            InputError: the method does not work with the model.
        """
        problem = f"does not work with the model {self.architecture.name}{self.chosen}"
        with _refused("method", self.method, problem):
            method = METHODS[self.method](**_quick(self.hyperparameters))
            method.prepare(self._context(model))
            method.epoch()
            method.model.eval()(self._samples((0,)).batch(torch.zeros(1, dtype=torch.int64)))
        return method

    def _configurations(self) -> Iterator["Rehearsal"]:
        """Yield this rehearsal, then one for each other configuration that differs from it."""
        tried = [_quick(self.hyperparameters)]
        yield self
        for values in self.further:
            if (quick := _quick(values)) not in tried:
                tried.append(quick)
                others = {
                    name: value for name, value in quick.items() if tried[0].get(name) != value
                }
                words = ", ".join(f"{name} = {value}" for name, value in others.items())
                yield replace(self, hyperparameters=values, chosen=f" with {words}")

    def _context(self, original: StagedModel) -> Context:
        classes = range(self.architecture.classes)
        kept = [name for name in classes if name not in self.forgotten] or list(classes)
        forget = list(self.forgotten or classes)
        count = min(self.forgets, FEW)
        original.requires_grad_(False)
        return Context(
            original=original.eval(),
            fresh=self.architecture.build,
            initial=self.architecture.build,
            forget=self._taught(original, [forget[place % len(forget)] for place in range(count)]),
            retain=self._taught(original, [kept[place % len(kept)] for place in range(MORE)]),
            held_out=self._samples(range(MORE)),
            classes=len(classes),
            forgotten=tuple(self.forgotten),
            seed=0,
            augmentation=self.augmentation,
        )

    def _taught(self, original: StagedModel, labels: Sequence[int]) -> Samples:
        samples = self._samples(labels)
        probs_NK, features = predict(original, samples.images_NCHW, self.stages)
        return Samples(
            images_NCHW=samples.images_NCHW,
            labels_N=samples.labels_N if self.with_labels else None,
            probs_NK=probs_NK,
            features=features,
        )

    def _samples(self, labels: Sequence[int]) -> Samples:
        """Return images of noise with these labels, or those of the next class there is."""
        shape = (len(labels), *self.architecture.image_shape)
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        labels_N = torch.tensor(labels) % self.architecture.classes
        return Samples(images_NCHW=torch.from_numpy(images), labels_N=labels_N)


def _quick(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration that takes the same code path in less time."""
    return {name: SMALL.get(name, value) for name, value in hyperparameters.items()}


@torch.no_grad()
def doubts(model: StagedModel, images: torch.Tensor) -> list[str]:
    """Return what is doubtful about a model's outputs, each in one line.

    Args:
        model: left in training mode.
        images: at least two, in [0, 1].
    """
    found = list[str]()
    for mode, training in (("evaluation", False), ("training", True)):
        model.train(training)
        if _draws(model, images):
            found.append(
                f"gives other outputs for the same images in {mode} mode, so numbers cannot be "
                "repeated; leave out its random numbers (F.dropout)"
            )
    outputs_BK = model(images)
    sums_B = outputs_BK.sum(dim=1)
    if bool((outputs_BK >= 0).all()) and bool(((sums_B - 1).abs() < PROBABLE).all()):
        found.append("gives probabilities where logits are needed; leave out its softmax")
    return found


def _draws(model: StagedModel, images: torch.Tensor) -> bool:
    """Return whether a model gives other outputs for the same images and the same state.

    In training, the state of global generators is the same as well: each epoch starts them from
    its seed, and `F.dropout` is repeated.
    """

    def output() -> torch.Tensor:
        chance = own_chance(0) if model.training else nullcontext()
        with chance:
            logits: torch.Tensor = model(images)
        return logits

    state = [(buffer, buffer.clone()) for buffer in model.buffers()]
    first = output()
    for buffer, before in state:
        buffer.copy_(before)  # a spectral norm depends on them, which is no chance
    return not torch.equal(first, output())


@contextmanager
def _refused(key: str, value: str, problem: str) -> Iterator[None]:
    """Name what is refused if a block fails for whatever reason."""

    def refusal(reason: str) -> InputError:
        return InputError(key, value, f"{problem} ({reason}); choose another")

    with code_of_others(refusal):
        try:
            yield
        except DivergedError as error:
            raise refusal(str(error.args[0])) from error
        except InputError as error:
            if error.key != "model.name" or key == "model.name":
                raise
            raise refusal(error.remedy) from error
