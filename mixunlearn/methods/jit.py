"""Just-in-time unlearning: make the model flat around the images to forget."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mixunlearn.host_values import from_host
from mixunlearn.methods.base import Context, Method


@dataclass(kw_only=True)
class JustInTime(Method):
    """Minimise `Σ_x E[‖f(x) − f(x + ξ)‖ / ‖ξ‖]` over D_f; neither D_r nor labels are used.

    f are the logits, x + ξ is an image with Gaussian noise, kept in the range of a pixel, and norms
    are Euclidean. The mean is over a few neighbours of each image; f of a neighbour is constant.
    The loss is the sum over a batch, as in the authors' code, so a larger `batch` takes larger
    steps.

    By default plain SGD; here "sgd" has no momentum. The authors make one pass over D_f; the search
    decides how many are best.

    Deviations: the authors' images are normalised, with a standard deviation of about 1; here
    pixels are as the model takes them, where it is about a quarter of a pixel's range. Their noise
    of 0.5 and rate of 3e-4 are divided by 3.8 accordingly. Their range of a pixel is that of the
    batch. Batch norm keeps the original's statistics, which D_f must not change (ours).

    Args:
        sigma: standard deviation > 0 of the noise, in units of a pixel's range.
        neighbours: neighbours of each image in a step, at least 1.

    Source: Foster et al., arXiv 2402.01401 (JiT).
    """

    needs_labels = False
    capturable = True
    passes_over = "forget"

    lr: float = 8e-5
    batch: int = 128
    optimizer: str = "sgd"
    sigma: float = 0.13
    neighbours: int = 25

    def prepare(self, context: Context) -> None:
        """Build the unlearner, and find the range of a pixel once."""
        super().prepare(context)
        self.low, self.high = context.pixel_range

    def stepper_for(self, module: nn.Module, lr: float) -> torch.optim.Optimizer:
        """Return Adam, or SGD without momentum."""
        stepper = super().stepper_for(module, lr)
        if self.optimizer == "sgd":
            for group in stepper.param_groups:
                group["momentum"] = 0.0
        return stepper

    def set_mode(self) -> None:
        """Put the unlearner into evaluation mode: D_f must not change batch norm's statistics."""
        self.model.eval()

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step on the forget half of the batch."""
        images = self.context.forget.batch(forget_B)
        logits_BK = self.model(images)
        # A neighbour at a time, because all of them together may not fit in memory.
        slopes = [self.slope(images, logits_BK) for _ in range(self.neighbours)]
        loss = torch.stack(slopes).mean(dim=0).sum()
        self.step(loss)
        return {"loss": loss.detach(), "slope": loss.detach() / len(images)}

    def slope(self, images: Tensor, logits_BK: Tensor) -> Tensor:
        """Return `‖f(x) − f(x + ξ)‖ / ‖ξ‖` for one neighbour of each image, shape (B,)."""

        def drawn() -> Tensor:
            return torch.from_numpy(self.rng.standard_normal(images.shape, dtype=np.float32))

        noise = from_host(drawn, images.device)
        moved = images + self.sigma * (self.high - self.low) * noise
        near = moved.clamp(self.low, self.high).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            near_BK = self.model(near)
        distance_B = torch.linalg.vector_norm((near - images).flatten(1), dim=1)
        change_B = torch.linalg.vector_norm(logits_BK - near_BK, dim=1)
        # Not 0 / 0, should all of the noise lie outside of the range.
        found: Tensor = change_B / distance_B.clamp_min(torch.finfo(torch.float32).tiny)
        return found
