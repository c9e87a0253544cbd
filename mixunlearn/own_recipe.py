"""The user's own way to train a model: a function that replaces the recipe of references."""

import hashlib
import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mixunlearn.border import IMPORT_S, code_of_others, limited
from mixunlearn.chance import own_chance
from mixunlearn.data.batches import Samples
from mixunlearn.errors import DivergedError, InputError
from mixunlearn.inference import predict
from mixunlearn.models.staged import StagedModel
from mixunlearn.models.wrapped import Wrapped
from mixunlearn.recipes import KEY, Recipe
from mixunlearn.training import Training

LEAST = 1e-12  # smaller probabilities count as this one in the loss that is shown

Train: TypeAlias = Callable[[nn.Module, Tensor, Tensor, int], None]


@dataclass(frozen=True, kw_only=True)
class OwnRecipe:
    """A function that trains originals and references.

    Args:
        function: `module:function`; called with the model, images, labels and a seed.
        digest: SHA-256 of the file of its module, in hex: changed code trains other models.
    """

    function: str
    digest: str

    @classmethod
    def of(cls, function: str) -> "OwnRecipe":
        """Return the recipe as its file is now.

        Raises:
            InputError: the module cannot be found, or has no source file.
        """
        return cls(function=function, digest=_digest(function))

    @property
    def content(self) -> dict[str, Any]:
        """Return what the trained weights depend on, as plain data."""
        return asdict(self)

    @property
    def epochs(self) -> int:
        """How often it is called: once; its own epochs are not known here."""
        return 1

    @property
    def augmentation(self) -> str:
        """Return "none": what the function does with images is not known here."""
        return "none"

    def load(self) -> Train:
        """Return the function.

        Raises:
            InputError: it cannot be imported, or its file has changed.
        """
        if _digest(self.function) != self.digest:
            remedy = "its file has changed since the plan was made; run the command again"
            raise InputError(KEY, self.function, remedy)
        return find_train(self.function)


def find_train(name: str) -> Train:
    """Return the function that a name stands for.

    Args:
        name: `package.module:function`.

    Raises:
        InputError: there is no such function, or it cannot be imported.
    """
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise InputError(KEY, name, "must name a function, package.module:function")

    def refusal(reason: str) -> InputError:
        return InputError(KEY, name, f"cannot be imported ({reason})")

    with code_of_others(refusal), limited(IMPORT_S):
        found: Train = getattr(importlib.import_module(module), function)
    if not callable(found):
        raise InputError(KEY, name, "is not a function")
    return found


def _digest(name: str) -> str:
    module = name.partition(":")[0]

    def refusal(reason: str) -> InputError:
        return InputError(KEY, name, f"cannot be imported ({reason})")

    with code_of_others(refusal), limited(IMPORT_S):
        found = importlib.util.find_spec(module)
    if found is None or not found.origin or not Path(found.origin).is_file():
        wrong = f"there is no module {module}" if found is None else f"{module} has no source file"
        raise InputError(KEY, name, wrong)
    return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()


class OwnTraining(Training):
    """Training of one model by the user's function, as a single epoch.

    Args:
        model: freshly initialised; trained in place.
        samples: with labels, on the model's device.
        recipe: the function.
        seed: handed to the function; Python's, NumPy's and PyTorch's generators start from it too.
    """

    def __init__(self, model: StagedModel, samples: Samples, recipe: OwnRecipe, seed: int) -> None:
        super().__init__(model, samples, Recipe(epochs=recipe.epochs), seed)
        self.own = recipe

    def epoch(self) -> dict[str, float]:
        """Train the model; return its mean cross entropy on the samples afterwards in nats.

        Raises:
            InputError: the function fails, or returns something.
            DivergedError: an output of the model is not finite.
        """
        train, samples = self.own.load(), self.samples
        assert samples.labels_N is not None

        def refusal(reason: str) -> InputError:
            return InputError(KEY, self.own.function, f"does not train this model ({reason})")

        with code_of_others(refusal), torch.enable_grad(), own_chance(self.seed):
            # Copies: other models are trained on the same images.
            images, labels = samples.whole().clone(), samples.labels_N.clone()
            returned: object = train(brought(self.model), images, labels, self.seed)
        if returned is not None:
            remedy = "returns something; it must train the model in place and return nothing"
            raise InputError(KEY, self.own.function, remedy)
        self.epochs_done += 1
        probs_NK, _ = predict(self.model, samples.images_NCHW)
        of_truth_N = probs_NK.gather(1, samples.labels_N[:, None])
        loss = -of_truth_N.clamp_min(LEAST).log().mean().item()
        if not math.isfinite(loss):
            raise DivergedError(f"loss = {loss}")
        return {"loss": loss}

    def state_dict(self) -> dict[str, Any]:
        """Return the model and whether it is trained."""
        return {"model": self.model.state_dict(), "epochs_done": self.epochs_done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.model.load_state_dict(state["model"])
        self.epochs_done = state["epochs_done"]


def brought(model: StagedModel) -> nn.Module:
    """Return the module that the user has written; it maps images in [0, 1] to logits.

    torchvision's networks need prepared pixels, so of these the whole model is returned.
    """
    return model.network if isinstance(model, Wrapped) and model.plain else model
