"""Boundary unlearning: move the decision boundary until the forget set lies beyond it.

Shape suffixes: N samples, B batch, K classes, D features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixunlearn.data.batches import Samples
from mixunlearn.errors import InputError
from mixunlearn.methods.base import Context, Method, Stateful
from mixunlearn.methods.relabelling import best_wrong
from mixunlearn.models import StagedModel
from mixunlearn.parallel import divided
from mixunlearn.representation import classifier
from mixunlearn.signature import seed_for


@dataclass(kw_only=True)
class Boundary(Method):
    """Minimise `CE(D_f, other classes)`; the retain set is not used.

    "shrink" uses for each image the nearest wrong class: the wrong class with the highest logit of
    the original after one step of FGSM. "expand" adds a shadow class, trains D_f on it, and prunes
    it: the shadow's weights are kept outside the model, which never has more than K classes.

    Ours: if whole classes are forgotten, none of them can be the nearest. Deviation: Adam by
    default; the authors' SGD with momentum 0.9 is the search's second trial.

    Args:
        mode: "shrink" or "expand".
        epsilon: ε ≥ 0 of FGSM, in units of a pixel's range; "expand" does not use it.

    Source: Chen et al., CVPR 2023, arXiv 2303.11570.
    """

    needs_labels = True
    capturable = True
    passes_over = "forget"

    lr: float = 1e-5
    mode: str = "shrink"
    epsilon: float = 0.1

    def prepare(self, context: Context) -> None:
        """Find the nearest classes, or build the shadow class."""
        super().prepare(context)
        if self.mode == "shrink":
            self.nearest_N = nearest(
                context.original,
                context.forget,
                self.epsilon,
                context.forgotten,
                context.pixel_range,
            )
            return
        self.last = last_linear(self.model, context.forget)
        # On the CPU, so that the weights do not depend on the device.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for("shadow class", context.seed))
            shadow = nn.Linear(self.last.in_features, 1)
        self.shadow = shadow.to(context.device)
        self.stepper = self.stepper_for(nn.ModuleList((self.model, self.shadow)), self.lr)

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step on the forget half of the batch."""
        images = self.images(self.context.forget, forget_B)
        if self.mode == "shrink":
            loss = F.cross_entropy(self.model(images), self.nearest_N[forget_B])
        else:
            shadow_B = torch.full_like(forget_B, self.context.classes)
            loss = F.cross_entropy(self.widened(images), shadow_B)
        self.step(loss)
        return {"loss": loss.detach()}

    def widened(self, images: Tensor) -> Tensor:
        """Return logits of shape (B, K + 1); the last one is the shadow class."""

        def widen(_: nn.Module, features: tuple[Tensor], logits_BK: Tensor) -> Tensor:
            return torch.cat((logits_BK, self.shadow(features[0])), dim=1)

        def compute(part: Tensor) -> tuple[Tensor]:
            # The hook exists only during a step: evaluation must see K classes.
            with self.last.register_forward_hook(widen):
                return (self.model(part),)

        return divided(nn.ModuleList((self.model, self.shadow)), compute, images)[0]

    def parts(self) -> dict[str, Stateful]:
        """Return by name everything that training changes."""
        return super().parts() | ({"shadow": self.shadow} if self.mode == "expand" else {})


def nearest(
    model: StagedModel,
    samples: Samples,
    epsilon: float,
    forgotten: tuple[int, ...],
    pixel_range: tuple[Tensor, Tensor],
) -> Tensor:
    """Return the wrong class that is nearest to each sample, int64, shape (N,).

    It has the highest logit at `x + ε·sign(∇_x CE(f(x), y))`, kept in the range of a pixel.

    Args:
        model: f, in evaluation mode.
        samples: with labels.
        epsilon: ε ≥ 0, in units of that range.
        forgotten: classes that are forgotten completely.
        pixel_range: the smallest and the largest value of a pixel, each (C, 1, 1).
    """
    found = []
    low, high = pixel_range
    for indices_B in samples.in_order():
        images, labels_B = samples.batch(indices_B), samples.labels(indices_B)
        loss = F.cross_entropy(model(images.requires_grad_()), labels_B, reduction="sum")
        (slope,) = torch.autograd.grad(loss, images)
        with torch.no_grad():
            moved = images + epsilon * (high - low) * slope.sign()
            logits = model(moved.clamp(low, high))
        found.append(best_wrong(logits, labels_B, forgotten))
    return torch.cat(found)


def last_linear(model: StagedModel, samples: Samples) -> nn.Linear:
    """Return the layer that computes the logits.

    Raises:
        InputError: it is not a linear layer.
    """
    try:
        return classifier(model, samples)
    except InputError as error:
        remedy = "the model's last layer is not linear; use shrink"
        raise InputError("search.space.mode", "expand", remedy) from error
