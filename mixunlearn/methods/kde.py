"""Knowledge distillation with entropy: reset both ends of the network, then distil the original."""

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from mixunlearn.losses import distillation_kl
from mixunlearn.methods.base import Context
from mixunlearn.methods.layers import first_convolution, last_layer, renew
from mixunlearn.methods.scheduled import Scheduled
from mixunlearn.methods.schedules import cosine, set_rate
from mixunlearn.models import StagedModel

TERMS = 2  # the authors' soft cross entropy is the divergence, up to a constant


@dataclass(kw_only=True)
class KnowledgeDistillationEntropy(Scheduled):
    """Reset the first convolution and the last layer; minimise `KL_T`, then `CE(D_r) + 2·KL_T`.

    `KL_T` is `KL(q_T ‖ p_T)` on D_r, with the predictions of the original and the unlearner at the
    temperature T. The first `warmup_epochs` epochs minimise it alone, the others also the cross
    entropy. In the authors' code, the second loss is `CE + KL_T` and the cross entropy between q_T
    and p_T, which is KL_T and a constant.

    By default SGD, as in the authors' code, new at the beginning of each phase. The rate of the
    second phase falls along a cosine, epoch by epoch.

    Deviations: the authors' warm-up uses validation images, without their labels. Here results are
    tuned and measured on such images, so the warm-up uses D_r. A model without convolutions
    restarts with its last layer only.

    Args:
        lr: learning rate of the second phase, > 0.
        lr_warmup: learning rate of the warm-up, > 0.
        temperature: T > 0.
        warmup_epochs: number of first epochs that only distil, at least 0.
        schedule_epochs: epochs of both phases, at least 1; a search and `unlearn` take the number
            of epochs of the run unless it is given.

    Source: an entry to the NeurIPS 2023 unlearning challenge; Cadet et al., arXiv 2410.01276 (KDE).
    """

    needs_labels = True
    capturable = True
    course = "schedule_epochs"

    lr: float = 1e-3
    batch: int = 64
    optimizer: str = "sgd"
    weight_decay: float = 5e-4
    lr_warmup: float = 9e-4
    temperature: float = 5.0
    warmup_epochs: int = 3
    schedule_epochs: int = 6

    def start(self, context: Context) -> StagedModel:
        """Return a copy of the original with both ends untrained."""
        model = super().start(context)
        renew(model, context, [*first_convolution(model), *last_layer(model)])
        return model

    def epoch(self) -> dict[str, float]:
        """Make one pass over D_r."""
        done = self.epochs_done - self.warmup_epochs
        if self.epochs_done in {0, self.warmup_epochs}:
            self.stepper = self.stepper_for(self.model, self.lr)
        course = max(self.schedule_epochs - self.warmup_epochs, 1)
        set_rate(self.stepper, self.lr_warmup if done < 0 else cosine(self.lr, done, course))
        return super().epoch()

    def step_kind(self) -> Hashable:
        """Return whether the epoch only distils."""
        return self.epochs_done < self.warmup_epochs

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step on the retain half of the batch."""
        retain, t = self.context.retain, self.temperature
        logits = self.model(self.images(retain, retain_B))
        # Without the factor T² of the shared loss, as in the authors' code.
        kl = distillation_kl(logits, retain.probs(retain_B), t) / t**2
        labels = F.cross_entropy(logits, retain.labels(retain_B))
        loss = kl if self.step_kind() else labels + TERMS * kl
        self.step(loss)
        return {"loss": loss.detach(), "kl": kl.detach(), "cross_entropy": labels.detach()}
