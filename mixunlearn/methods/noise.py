"""Shared code of methods that forget classes with noise that maximises the original's error.

Shape suffixes: N noise images, B batch, C channels, H W pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.host_values import from_host
from mixunlearn.methods.base import Context
from mixunlearn.methods.scheduled import Scheduled
from mixunlearn.optimization import Adam

Labelled = tuple[Tensor, Tensor]  # images (N, C, H, W) and their classes (N,), int64


@dataclass(kw_only=True)
class NoiseMethod(Scheduled, ABC):
    """Impair in the first epoch, repair in all others; a subclass chooses the images.

    The first epoch minimises the cross entropy on noise, labelled as the forgotten classes,
    together with images of the kept classes. The other epochs use only the latter. Each of the two
    phases begins with a new optimizer.

    Args:
        lr: learning rate of the repair, > 0.
        lr_impair: learning rate of the first epoch, > 0.
        lr_noise: learning rate of Adam on the noise, > 0.
        noise_steps: steps of Adam on the noise, at least 1.
        penalty: weight ≥ 0 of the noise's squared norm.
        noise_images: noise images for each class, at least 1.
        batch: images in a step, at least 1.
    """

    whole_classes = True
    capturable = True

    lr: float = 1e-3
    lr_impair: float = 2e-3
    lr_noise: float = 0.1
    noise_steps: int = 40
    noise_images: int = 256
    penalty: float = 0.1

    def prepare(self, context: Context) -> None:
        """Learn the noise of the forgotten classes, against the original."""
        super().prepare(context)
        self.forgotten = self.learn(context.forgotten, wrong=True)

    def epoch(self) -> dict[str, float]:
        """Make one pass that impairs or repairs."""
        if self.epochs_done == 0:
            self.stepper = self.stepper_for(self.model, self.lr_impair)
        elif self.epochs_done == 1:
            self.stepper = self.stepper_for(self.model, self.lr)
        return super().epoch()

    @abstractmethod
    def kept(self, retain_B: Tensor) -> Labelled:
        """Return B images of the kept classes."""

    def step_kind(self) -> Hashable:
        """Return whether the epoch impairs."""
        return self.epochs_done == 0

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step; noise and images of kept classes go through the model in one pass."""
        images, classes_B = self.kept(retain_B)
        if self.step_kind():
            noise, noise_classes_B = self.draw(self.forgotten, len(retain_B))
            images, classes_B = torch.cat((noise, images)), torch.cat((noise_classes_B, classes_B))
        loss = F.cross_entropy(self.model(images), classes_B)
        self.step(loss)
        return {"loss": loss.detach()}

    def learn(self, classes: Sequence[int], *, wrong: bool) -> Labelled:
        """Return noise images of each class for which the original's error is maximal or minimal.

        They minimise `∓CE(f_D(z), class) + penalty·‖z‖²`, starting from z ~ N(0, 1). z are pixels
        as a model sees them: 0 is grey, ±1 are black and white; z may exceed these limits.
        """
        context = self.context
        count = self.noise_images
        classes_N = torch.tensor(classes, device=context.device).repeat_interleave(count)
        shape = (len(classes_N), *context.forget.images_NCHW.shape[1:])
        z_NCHW = torch.from_numpy(self.rng.standard_normal(shape)).float().to(context.device)
        z_NCHW.requires_grad_()
        optimizer = Adam([z_NCHW], lr=self.lr_noise)
        low, high = context.pixel_range

        def pixels(z_NCHW: Tensor) -> Tensor:
            # z is centred; the model takes images as they are.
            return low + (z_NCHW + 1) / 2 * (high - low)

        with context.precision.forward(context.device):
            for _ in range(self.noise_steps):
                loss = F.cross_entropy(context.original(pixels(z_NCHW)), classes_N)
                norm = z_NCHW.square().sum(dim=(1, 2, 3)).mean()
                self.step((-loss if wrong else loss) + self.penalty * norm, optimizer=optimizer)
        return pixels(z_NCHW.detach()), classes_N

    def draw(self, noise: Labelled, count: int) -> Labelled:
        """Return `count` of the noise images, drawn with replacement."""
        images, classes_N = noise

        def drawn() -> Tensor:
            return torch.from_numpy(self.rng.integers(len(images), size=count))

        drawn_B = from_host(drawn, images.device)
        return images[drawn_B], classes_N[drawn_B]
