"""Adversarial examples: near images that a model puts into another class.

Shape suffixes: N samples, B batch, C channels, H W pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.data.batches import Samples
from mixunlearn.methods.relabelling import best_wrong
from mixunlearn.models import StagedModel

STEPS = 50  # with one radius
STRIDE = 0.1  # length of a step, as a share of the radius
TINY = 1e-30  # a gradient of this length or less has no direction


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Projected gradient ascent on the cross entropy in an L2 ball that doubles until it succeeds.

    Each of the 50 steps of one radius has a tenth of its length. An image is left as soon as its
    class is not the predicted one; the others go on from where they are, with twice the radius. No
    radius exceeds that of all images, √(C·H·W).

    Args:
        model: in evaluation mode.
        pixel_range: the smallest and the largest value of a pixel, each (C, 1, 1).
        radius: the first radius, > 0, in units of the pixel range.
    """

    model: StagedModel
    pixel_range: tuple[Tensor, Tensor]
    radius: float

    def find(self, samples: Samples, forgotten: tuple[int, ...]) -> Samples:
        """Return an example for each sample, with the wrong class that the model finds likeliest.

        It is the class that the model predicts, unless that one is forgotten or no example was
        found. A sample that is predicted wrongly is its own example.

        Args:
            samples: N samples with labels.
            forgotten: classes that are forgotten completely; they are no one's wrong class.

        Returns:
            N samples: float32 images and their classes.
        """
        found, classes = [], []
        for indices_B in samples.in_order():
            labels_B = samples.labels(indices_B)
            found.append(self.nearest(samples.batch(indices_B), labels_B))
            with torch.no_grad():
                classes.append(best_wrong(self.model(found[-1]), labels_B, forgotten))
        return Samples(images_NCHW=torch.cat(found), labels_N=torch.cat(classes))

    def nearest(self, images: Tensor, labels_B: Tensor) -> Tensor:
        """Return the examples of a batch of images."""
        low, high = self.pixel_range
        # A channel without any range stays as it is.
        start = (images - low) / (high - low).clamp_min(TINY)
        near, radius = start.clone(), self.radius
        largest = 2 * math.sqrt(start[0].numel())
        while radius < largest:
            right_B = self.scores(near).argmax(dim=1).eq(labels_B).nonzero()[:, 0]
            if not len(right_B):
                break
            near[right_B] = self.walk(start[right_B], near[right_B], labels_B[right_B], radius)
            radius *= 2
        return self.pixels(near)

    def walk(self, start: Tensor, near: Tensor, labels_B: Tensor, radius: float) -> Tensor:
        """Return images after the steps of one radius."""
        for _ in range(STEPS):
            near.requires_grad_()
            with torch.enable_grad():
                logits = self.model(self.pixels(near))
                loss = F.cross_entropy(logits, labels_B, reduction="sum")
            right_B = logits.argmax(dim=1).eq(labels_B)
            if not right_B.any():
                break
            (slope,) = torch.autograd.grad(loss, near)
            away = near.detach() - start + STRIDE * radius * unit(slope) * column(right_B, near)
            length_B = away.flatten(1).norm(dim=1)
            # Images that were left before must not be moved by the projection either.
            shrunk = column((radius / length_B.clamp_min(TINY)).clamp_max(1), near)
            moved = (start + shrunk * away).clamp(0, 1)
            near = torch.where(column(right_B, near).bool(), moved, near.detach())
        return near.detach()

    def pixels(self, near: Tensor) -> Tensor:
        """Return images as the model takes them; in `near`, all pixels lie in [0, 1]."""
        low, high = self.pixel_range
        return low + near * (high - low)

    @torch.no_grad()
    def scores(self, near: Tensor) -> Tensor:
        """Return the model's logits, shape (B, K)."""
        logits: Tensor = self.model(self.pixels(near))
        return logits


def unit(slope: Tensor) -> Tensor:
    """Return each image's gradient with length 1, or 0 if it has no direction."""
    return F.normalize(slope.flatten(1), dim=1, eps=TINY).view(slope.shape)


def column(values_B: Tensor, images: Tensor) -> Tensor:
    """Return one value for each image in a shape that can be multiplied with images, (B, 1, …)."""
    return values_B.to(images.dtype).view(-1, *[1] * (images.dim() - 1))
