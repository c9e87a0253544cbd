"""Bad teaching: the original is the teacher on D_r, an untrained model is the teacher on D_f."""

from dataclasses import dataclass

from torch import Tensor

from mixunlearn.inference import predict
from mixunlearn.losses import distillation_kl
from mixunlearn.methods.base import Context, Method
from mixunlearn.signature import seed_for


@dataclass(kw_only=True)
class BadTeacher(Method):
    """Minimise `KL_T(original ‖ u)` on D_r + `w·|D_f|/|D_r|·KL_T(untrained ‖ u)` on D_f.

    Deviation: a batch has as many forget as retain images; the authors draw their batches from D_f
    and 30 % of D_r together. There an image of D_f counts as much as 1/0.3 images of D_r, which is
    the default w here; if D_f is a tenth of all images, the weight `w·|D_f|/|D_r|` is 0.37.

    Args:
        temperature: T > 0 of teachers and unlearner.
        forget_weight: w > 0, how much an image of D_f counts beside one of D_r.

    Source: Chundawat et al., AAAI 2023, arXiv 2205.08096.
    """

    needs_labels = False
    capturable = True

    temperature: float = 1.0
    forget_weight: float = 1 / 0.3

    def prepare(self, context: Context) -> None:
        """Compute the bad teacher's outputs once; those of the original are known."""
        super().prepare(context)
        untrained = context.fresh(seed_for("bad teacher", context.seed)).to(context.device)
        self.bad_probs_NK, _ = predict(untrained, context.forget.images_NCHW)

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step; both halves go through the model in one pass."""
        forget_logits, retain_logits = self.logits(forget_B, retain_B)
        good, bad = self.context.retain.probs(retain_B), self.bad_probs_NK[forget_B]
        loss_retain = distillation_kl(retain_logits, good, self.temperature)
        loss_forget = distillation_kl(forget_logits, bad, self.temperature)
        loss = loss_retain + self.forget_share(self.forget_weight) * loss_forget
        self.step(loss)
        return {
            "loss": loss.detach(),
            "loss_retain": loss_retain.detach(),
            "loss_forget": loss_forget.detach(),
        }
