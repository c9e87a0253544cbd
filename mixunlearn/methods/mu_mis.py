"""MU-Mis: make the logit of a forget image's class insensitive to the image's pixels."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mixunlearn.host_values import from_host
from mixunlearn.methods.base import Context, Method


@dataclass(kw_only=True)
class MuMis(Method):
    """Minimise `‖∇ₓ z_c‖² − ‖∇ₓ z_c'‖²` over D_f; D_r is not used.

    z are the logits, c is an image's class, and c' is another class, drawn again for each image and
    step. Training increases the first of these sensitivities and decreases the second. If labels
    are not available, c is the class that the original predicts (ours).

    Deviation: the paper stops when the second sensitivity reaches a multiple of its first value.
    Here both are among the scalars, and the search decides when to stop.

    Source: Cheng et al., ICLR 2026, arXiv 2402.15109.
    """

    needs_labels = False
    capturable = True
    passes_over = "forget"

    def prepare(self, context: Context) -> None:
        """Find the class of each forget image."""
        super().prepare(context)
        forget = context.forget
        if forget.labels_N is None:
            assert forget.probs_NK is not None
            self.classes_N = forget.probs_NK.argmax(dim=1)
        else:
            self.classes_N = forget.labels_N

    def set_mode(self) -> None:
        """Put the unlearner into evaluation mode: D_f must not change batch norm's statistics."""
        self.model.eval()

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step on the forget half of the batch."""
        classes_B = self.classes_N[forget_B]
        images = self.context.forget.batch(forget_B).requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):  # the only backend with second derivatives
            logits_BK = self.model(images)
        own = sensitivity(logits_BK, classes_B, images)
        other = sensitivity(logits_BK, self.others(classes_B), images)
        loss = own - other
        self.step(loss)
        return {
            "loss": loss.detach(),
            "sensitivity": own.detach(),
            "sensitivity_other": other.detach(),
        }

    def others(self, classes_B: Tensor) -> Tensor:
        """Return a random class for each image, different from its own."""
        classes, count = self.context.classes, len(classes_B)
        # A shift of 1 to K - 1 never leads back to the image's own class.
        steps_B = from_host(
            lambda: torch.from_numpy(self.rng.integers(1, classes, size=count)), classes_B.device
        )
        return (classes_B + steps_B) % classes


def sensitivity(logits_BK: Tensor, classes_B: Tensor, images: Tensor) -> Tensor:
    """Return `‖∇ₓ z_c(x)‖²`, mean of the batch; the result can be differentiated again.

    Args:
        logits_BK: z, of a model whose samples do not affect each other, as in evaluation mode.
        classes_B: c.
        images: x, shape (B, C, H, W), from which the logits were computed.
    """
    chosen = logits_BK.gather(1, classes_B[:, None]).sum()
    (slope,) = torch.autograd.grad(chosen, images, create_graph=True)
    return slope.square().sum() / len(images)
