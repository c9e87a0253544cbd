"""Label-agnostic forgetting: unlearn in the space of representations, without any label.

Shape suffixes: N samples, B batch, E representation, L latent variables.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from mixunlearn.acceleration import Steps
from mixunlearn.data.batches import shuffled
from mixunlearn.inference import compact
from mixunlearn.losses import contrastive_ratio
from mixunlearn.methods.base import Context, Stateful
from mixunlearn.methods.scheduled import Scheduled
from mixunlearn.optimization import adam, take_step
from mixunlearn.precision import Precision
from mixunlearn.representation import representation, representations
from mixunlearn.signature import seed_for
from mixunlearn.vae import VAE

VAE_EPOCHS, VAE_LR, VAE_BATCH = 10, 1e-3, 32  # the authors'


@dataclass(kw_only=True)
class Laf(Scheduled):
    """Move the representations e of D_f away from the original's, and keep those of D_r.

    Two autoencoders learn how the original's representations are distributed: h for all data, h_f
    for D_f. Each step then minimises two losses, one after the other, each with its own Adam:
    - `L_UE = mean m(h(e), e) over D_r − mean m(h_f(e), e) over D_f`, `m(a, b) = exp(d / (d + 1))`
      with `d = ‖a − b‖²`: D_r stays distributed as all data, D_f no longer as the original D_f;
    - `L_RA = R(e_r, e_r of the original, e_f, e_f of the original; 1, 1, τ) / B`, where R is
      `losses.contrastive_ratio`.

    A representation is the input of the linear layer that gives the logits. Deviations: when the
    misfit is computed, the autoencoders restore from the mean of the latent variables; and their
    outputs are not limited to [0, 1]. The misfit and R are divided by the batch size. Three more
    concern how the authors' code runs, which the paper does not say:
    - their models are in evaluation mode while they unlearn, because they were tested before; here
      `norms="fixed"` does so, so that batch norm keeps the original's statistics;
    - their epoch ends with the shorter of both sets, here `passes="shorter"` does so;
    - their models have another representation: a linear layer with 256 outputs, without a ReLU
      after it, before the classifier. See `models.cnn` and `models.resnet`.

    Args:
        lr: learning rate of L_RA's Adam (the paper's lr_RA), > 0.
        lr_ue: learning rate of L_UE's Adam, > 0.
        tau: τ > 0.
        latent: number of latent variables of each autoencoder, at least 1.
        norms: "batch" lets batch norm use and learn the statistics of each batch, "fixed" does not.
        passes: an epoch is a pass over D_r ("retain"), or ends with the shorter set ("shorter").

    Source: Shen et al., ICLR 2024, arXiv 2404.00506.
    """

    needs_labels = False
    capturable = True

    lr_ue: float = 5e-5
    tau: float = 20.0
    latent: int = 8
    norms: str = "batch"
    passes: str = "retain"

    def prepare(self, context: Context) -> None:
        """Compute the original's representations once, and build the autoencoders for them."""
        super().prepare(context)
        self.optimizer_ue = self.stepper_for(self.model, self.lr_ue)
        self.forget_NE = compact(representations(context.original, context.forget))
        self.retain_NE = compact(representations(context.original, context.retain))
        self.vae, self.forget_vae = (
            untrained(self.forget_NE, self.latent, seed_for("vae", name, context.seed))
            for name in ("all", "forget")
        )

    def epoch(self) -> dict[str, float]:
        """Make one pass over D_r; train the autoencoders before the first one."""
        # Not in `prepare`: a resumed trial loads its autoencoders instead of training them.
        if self.epochs_done == 0:
            self.fit(self.vae, torch.cat((self.forget_NE, self.retain_NE)))
            self.fit(self.forget_vae, self.forget_NE)
        return super().epoch()

    def fit(self, vae: VAE, x_NE: Tensor) -> None:
        """Train an autoencoder on representations, and freeze it again."""
        fit(vae, x_NE, self.rng, self.context.precision, capture=self.context.capture)

    def set_mode(self) -> None:
        """Put the unlearner into training mode, or into evaluation mode if norms are fixed."""
        super().set_mode()
        if self.norms == "fixed":
            self.model.eval()

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the epoch's batches, of both sets or until the shorter one ends."""
        steps = -(-min(len(self.context.forget), len(self.context.retain)) // self.batch)
        return islice(super().pairs(), steps if self.passes == "shorter" else None)

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take a step of L_UE and one of L_RA."""
        forget_BE, retain_BE = self.both(forget_B, retain_B)
        loss_ue = misfit(self.vae, retain_BE) - misfit(self.forget_vae, forget_BE)
        self.step(loss_ue, optimizer=self.optimizer_ue)
        # Computed again, because the first step has changed the unlearner.
        forget_BE, retain_BE = self.both(forget_B, retain_B)
        known = self.retain_NE[retain_B].float(), self.forget_NE[forget_B].float()
        ratio = contrastive_ratio(retain_BE, known[0], forget_BE, known[1], 1, 1, self.tau)
        loss_ra = ratio / len(retain_B)
        self.step(loss_ra)
        return {
            "loss": (loss_ue + loss_ra).detach(),
            "loss_ue": loss_ue.detach(),
            "loss_ra": loss_ra.detach(),
        }

    def both(self, forget_B: Tensor, retain_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unlearner's representations of both halves of a batch, from one pass."""
        forget, retain = self.context.forget, self.context.retain
        images = torch.cat((self.images(forget, forget_B), self.images(retain, retain_B)))
        both_BE = representation(self.model, images)
        return both_BE[: len(forget_B)], both_BE[len(forget_B) :]

    def parts(self) -> dict[str, Stateful]:
        """Return by name everything that training changes, and the trained autoencoders."""
        vaes = {"vae": self.vae, "forget_vae": self.forget_vae}
        return super().parts() | {"optimizer_ue": self.optimizer_ue} | vaes


def misfit(vae: VAE, x_BE: Tensor) -> Tensor:
    """Return the mean of `exp(d / (d + 1))` with `d = ‖vae(x) − x‖²`, in [1, e]."""
    distance_B = (vae(x_BE) - x_BE).square().sum(dim=1)
    loss: Tensor = (distance_B / (distance_B + 1)).exp().mean()
    return loss


def untrained(x_NE: Tensor, latent: int, seed: int) -> VAE:
    """Return a frozen, untrained autoencoder for representations, on their device."""
    with torch.random.fork_rng(devices=[]):
        # On the CPU, so that the weights do not depend on the device.
        torch.manual_seed(seed)
        return VAE(x_NE.shape[1], latent).to(x_NE.device).requires_grad_(False)


def fit(
    vae: VAE,
    x_NE: Tensor,
    rng: np.random.Generator,
    precision: Precision,
    *,
    capture: bool = True,
) -> None:
    """Train an autoencoder on representations, and freeze it again."""
    optimizer = adam(vae.requires_grad_(True), VAE_LR)
    parts = {"vae": vae, "optimizer": optimizer}
    steps = Steps("autoencoder", lambda: parts, rng, x_NE.device, wanted=capture)

    def step(x_BE: Tensor, noise_BL: Tensor) -> dict[str, Tensor]:
        loss = vae.loss(x_BE.float(), noise_BL)
        take_step(loss, optimizer, precision=precision)
        return {"loss": loss.detach()}

    for _ in range(VAE_EPOCHS):
        noise = rng.standard_normal((len(x_NE), vae.latent), dtype=np.float32)
        noise_NL = torch.from_numpy(noise).to(x_NE.device)
        with precision.forward(x_NE.device):
            for indices_B in shuffled(rng, len(x_NE), VAE_BATCH, x_NE.device):
                steps.take(step, x_NE[indices_B], noise_NL[indices_B])
    vae.requires_grad_(False)
