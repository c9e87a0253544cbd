"""Plain mixup with contrastive losses: the control that shows the effect of the generator."""

from dataclasses import dataclass

from torch import Tensor

from mixunlearn.methods.mixture import MixtureMethod


@dataclass(kw_only=True)
class LMix(MixtureMethod):
    """Minimise `R(mixed; 1−λ, λ, τ) + R(real; 1, 1, τ)` with `x_mix = λ·x_f + (1−λ)·x_r`.

    R is `losses.contrastive_ratio`, the contrastive alignment of LAF (arXiv 2404.00506). The
    paper calls this control "L-Mix" but does not give its weights; one τ and equal weights are
    ours.

    Args:
        tau: τ > 0 of both terms.

    Source: arXiv 2502.10288, section 5.
    """

    tau: float = 5.0

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step on mixed, retain and forget images."""
        forget = self.images(self.context.forget, forget_B)
        retain = self.images(self.context.retain, retain_B)
        lam = self.draw_lambda()
        mixed = lam * forget + (1 - lam) * retain
        u_mix, u_retain, u_forget = self.outputs(mixed, retain, forget)
        loss_mix = self.mixed_loss(u_mix, forget_B, retain_B, lam, self.tau)
        loss_real = self.real_loss(u_forget, u_retain, forget_B, retain_B, self.tau)
        loss = loss_mix + loss_real
        self.step(loss)
        return {
            "loss": loss.detach(),
            "loss_mix": loss_mix.detach(),
            "loss_real": loss_real.detach(),
        }
