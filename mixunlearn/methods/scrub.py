"""SCRUB: a student that disagrees with its teacher, the original, only on the forget set."""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mixunlearn.data.batches import Samples, shuffled
from mixunlearn.errors import InputError
from mixunlearn.inference import predict
from mixunlearn.losses import distillation_kl
from mixunlearn.methods.base import Context, Stateful, settle
from mixunlearn.methods.scheduled import Scheduled
from mixunlearn.models import StagedModel
from mixunlearn.signature import seed_for

PUSH = 1e-3  # sd of the first push, as a share of each weight


@dataclass(kw_only=True)
class Scrub(Scheduled):
    """Maximise `KL_T(original ‖ u)` over D_f, then minimise `α·KL_T(original ‖ u) + γ·CE` over D_r.

    The first `msteps` epochs have both passes, the later ones only the second.

    With `rewind` (SCRUB+R), the model should forget just enough: its error on D_f should equal its
    error on held-out images of the same classes. The paper keeps a checkpoint of each epoch, and at
    the end takes the one whose error on D_f is nearest to the last one's error on held-out images.
    Here any epoch may be the last one, and checkpoints must stay small. So after each epoch, the
    delivered weights are compared with the newest: those whose error on D_f is nearer to the
    newest's error on held-out images are delivered. Training continues from the newest.

    Deviations from the authors' code: a constant learning rate, no weight decay, one batch size for
    both passes, and the student starts slightly away from the original. At the original itself the
    divergence has no gradient, and rounding errors would decide where Adam goes.

    Args:
        alpha: α ≥ 0, weight of the original's predictions.
        gamma: γ ≥ 0, weight of the labels.
        temperature: T > 0 of the predictions.
        msteps: number of first epochs with the pass over D_f, at least 0.
        rewind: whether to deliver the weights that forget just enough.

    Source: Kurmanji et al., NeurIPS 2023, arXiv 2302.09880.
    """

    needs_labels = True

    lr: float = 5e-4
    alpha: float = 0.5
    gamma: float = 1.0
    temperature: float = 2.0
    msteps: int = 3
    rewind: bool = False

    def prepare(self, context: Context) -> None:
        """Build the student; with `rewind`, also the model that is delivered."""
        super().prepare(context)
        # On the CPU, so that the push does not depend on the model's device.
        generator = torch.Generator().manual_seed(seed_for("push", context.seed))
        for _, weight in self.model.trained():
            noise = torch.randn(weight.shape, generator=generator).to(weight.device)
            weight.data.mul_(1 + PUSH * noise)
        self.student, self.delivered_error = self.model, math.inf
        if self.rewind:
            if not len(context.held_out):
                raise InputError("held_out", None, "needed by rewind; give some, or rewind=False")
            # The optimizer holds the student's weights, so the copy is the one to deliver.
            self.model = deepcopy(self.student)
            self.alike = of_same_classes(context.held_out, context.forget)

    def epoch(self) -> dict[str, float]:
        """Move away from the original on D_f and towards it on D_r; choose what to deliver."""
        # The common epoch loop trains `self.model`.
        delivered, self.model = self.model, self.student
        if self.epochs_done < self.msteps:
            self.push_away()
        scalars = super().epoch()
        self.model = delivered
        if self.rewind:
            self.deliver()
        return scalars

    def push_away(self) -> None:
        """Make one pass over D_f that moves the student away from the original."""
        self.set_mode()
        forget, device = self.context.forget, self.context.device
        if min(len(forget), self.batch) == 1:
            settle(self.model)
        with self.context.precision.forward(device):
            for forget_B in shuffled(self.rng, len(forget), self.batch, device):
                self.step(-self.disagreement(forget, forget_B)[0])

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step towards the original and the labels on the retain half of the batch."""
        retain = self.context.retain
        kl, logits = self.disagreement(retain, retain_B)
        cross_entropy = F.cross_entropy(logits, retain.labels(retain_B))
        loss = self.alpha * kl + self.gamma * cross_entropy
        self.step(loss)
        return {"loss": loss.detach(), "kl": kl.detach(), "cross_entropy": cross_entropy.detach()}

    def disagreement(self, samples: Samples, indices_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return `KL_T(original ‖ u)` of a batch, and the unlearner's logits."""
        logits = self.model(self.images(samples, indices_B))
        return distillation_kl(logits, samples.probs(indices_B), self.temperature), logits

    def deliver(self) -> None:
        """Deliver the newest weights, unless the delivered ones have a better error on D_f."""
        wanted = error(self.student, self.alike)
        newest = error(self.student, self.context.forget)
        # The first error is infinite, so the first epoch is always delivered.
        if abs(newest - wanted) <= abs(self.delivered_error - wanted):
            self.model.load_state_dict(self.student.state_dict())
            self.delivered_error = newest

    def parts(self) -> dict[str, Stateful]:
        """Return by name everything that training changes."""
        return super().parts() | ({"student": self.student} if self.rewind else {})

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next epoch depends on."""
        return {**super().state_dict(), "delivered_error": self.delivered_error}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state_dict(state)
        self.delivered_error = state["delivered_error"]


def of_same_classes(held_out: Samples, forget: Samples) -> Samples:
    """Return the held-out images of the classes in D_f; all, if there are none of these classes."""
    assert held_out.labels_N is not None
    assert forget.labels_N is not None
    same_N = torch.isin(held_out.labels_N, forget.labels_N)
    if not same_N.any():
        return held_out
    return Samples(images_NCHW=held_out.images_NCHW[same_N], labels_N=held_out.labels_N[same_N])


def error(model: StagedModel, samples: Samples) -> float:
    """Return the share of samples that a model predicts wrongly, in [0, 1]."""
    assert samples.labels_N is not None
    probs_NK, _ = predict(model, samples.images_NCHW)
    return probs_NK.argmax(dim=1).ne(samples.labels_N).to(torch.float32).mean().item()
