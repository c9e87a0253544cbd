"""LoTUS: as unsure of D_f as a model is of images that it has not seen.

Shape suffixes: N samples, B batch, K classes.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.data.batches import Samples
from mixunlearn.errors import InputError
from mixunlearn.host_values import from_host, number_from_host
from mixunlearn.methods.base import Context
from mixunlearn.methods.proportional import Proportional
from mixunlearn.methods.scrub import error

ENOUGH = 0.01  # the accuracy on D_f may fall this far below that on unseen images


@dataclass(kw_only=True)
class Lotus(Proportional):
    """Minimise the mean of `−Σ_c t_c·log u_c` over D_f and a part of D_r.

    With the original's probabilities p and new Gumbel noise g for each image and step, t is
    `softmax((log p + g) / τ)` on D_f and, one-hot, `argmax(log p + g)` on D_r. Before each epoch,
    `τ = exp(α·(Acc(u, D_f) − Acc(original, unseen images)))`, with accuracies in [0, 1]. The unseen
    images are the held-out ones; if whole classes are forgotten, their accuracy counts as 0. When
    the first accuracy is 0.01 below the second, nothing is trained any more.

    With τ = 1, the original's predictions are learnt again. So if whole classes are forgotten, an
    accuracy of 0 rises in the next epoch: the result depends on the number of epochs.

    Deviation: Adam, or SGD, with an L2 penalty; the authors use AdamW.

    Args:
        alpha: α ≥ 0, how fast τ grows with the difference of the accuracies. The authors take 2 for
            most data sets, 8 for CIFAR-10 with a ResNet-18, and 32 for whole classes.
        retain_share: share of D_r that is used, drawn at random once, in (0, 1].

    Source: Spartalis et al., CVPR 2025, arXiv 2503.18314.
    """

    alpha: float = 2.0
    retain_share: float = 0.3

    def prepare(self, context: Context) -> None:
        """Measure the original on images that it has not seen.

        Raises:
            InputError: there are none, and no whole class is forgotten.
        """
        super().prepare(context)
        self.unseen, self.tau, self.enough = 0.0, 1.0, False
        if not context.forgotten:
            if not len(context.held_out):
                raise InputError(
                    "held_out", None, "needed by lotus; give some, or use another method"
                )
            self.unseen = 1 - error(context.original, context.held_out)

    def teach(self, context: Context) -> Samples:
        """Return D_f; what is taught for it changes from step to step."""
        return context.forget

    def keep(self, context: Context) -> Tensor:
        """Return a random part of the rows of D_r."""
        size = max(round(self.retain_share * len(context.retain)), 1)
        # Drawn in `prepare`, so that a resumed trial draws the same part from its seed.
        return torch.from_numpy(self.rng.permutation(len(context.retain))[:size])

    def epoch(self) -> dict[str, float]:
        """Choose the temperature and make one pass."""
        excess = 1 - error(self.model, self.context.forget) - self.unseen
        self.enough = excess <= -ENOUGH
        self.tau = math.exp(self.alpha * excess)
        return super().epoch()

    def set_mode(self) -> None:
        """Put the unlearner into training mode, or into evaluation mode if nothing is trained."""
        super().set_mode()
        if self.enough:
            self.model.eval()

    def step_kind(self) -> Hashable:
        """Return whether nothing is trained any more."""
        return self.enough

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step, if there is still something to forget."""
        logs_BK = torch.log_softmax(torch.cat(self.logits(forget_B, retain_B)), dim=1)
        retain, tau = self.context.retain, number_from_host(lambda: self.tau, self.context.device)
        targets_BK = torch.cat(
            (
                torch.softmax(self.noisy(self.taught.probs(forget_B)) / tau, dim=1),
                one_hot(self.noisy(retain.probs(retain_B))),
            )
        )
        loss = -(targets_BK * logs_BK).sum(dim=1).mean()
        if not self.enough:
            self.step(loss)
        return {"loss": loss.detach(), "tau": tau}

    def noisy(self, probs_BK: Tensor) -> Tensor:
        """Return `log p + g` with standard Gumbel noise g."""
        shape = tuple(probs_BK.shape)
        noise_BK = from_host(lambda: torch.from_numpy(self.rng.gumbel(size=shape)), probs_BK.device)
        tiny = torch.finfo(probs_BK.dtype).tiny
        return probs_BK.clamp_min(tiny).log() + noise_BK.to(probs_BK)


def one_hot(scores_BK: Tensor) -> Tensor:
    """Return 1 for the highest score of each row, else 0, as floating-point numbers."""
    # Not `F.one_hot`, which reads the largest class from its tensor.
    return torch.zeros_like(scores_BK).scatter_(1, scores_BK.argmax(dim=1, keepdim=True), 1)
