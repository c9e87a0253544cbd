"""Adversarial Mixup Unlearning: a generator mixes images that the unlearner must forget."""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.errors import InputError
from mixunlearn.generator import MixBlock, mix
from mixunlearn.methods.base import Context, Stateful
from mixunlearn.methods.mixture import MixtureMethod
from mixunlearn.models import StagedModel
from mixunlearn.optimization import adam
from mixunlearn.signature import seed_for

EMA_DECAY = 0.999


@dataclass(kw_only=True)
class MixUnlearn(MixtureMethod):
    """Minimise `L_mix + ω·L_real` while a generator maximises `R(mixed; 1−λ, λ, τ_gen)`.

    Each step updates the unlearner. Every `gen_interval`-th step of an epoch, starting with the
    first, updates the generator before that, only through the mask, with its own optimizer. The
    defaults are first guesses: the paper does not publish ω, its temperatures or learning rates.

    Deviations from the authors' partial code: targets stay with their images when the retain
    batch is shuffled, and the adversary is the current unlearner, as in the paper. As in that code,
    any forget image is paired with any retain image, one λ ~ Beta(α, α) is drawn for a whole batch,
    again for the generator's and the unlearner's mixture, and nothing makes the mean of a mask
    equal λ (`mask_weight` would).

    Args:
        lr_gen: learning rate of Adam on the generator, > 0.
        omega: ω ≥ 0, weight of the real pairs.
        tau_gen: τ > 0 of the generator's loss.
        tau_mix: τ > 0 of the mixed pairs.
        tau_real: τ > 0 of the real pairs.
        gen_interval: K ≥ 1, steps of the unlearner for each step of the generator.
        stage: the original model's stage whose features the generator reads.
        mixing: "mixblock", "mixup" (plain: without the generator) or "none" (without L_mix).
        real: whether L_real is part of the loss.
        adversary: the model whose loss the generator maximises: "unlearner", "original" or "ema"
            (a moving average of the unlearner); with "none", it minimises the unlearner's loss.
        lam_concat: whether a constant channel gives λ to the generator.
        relu: whether a ReLU follows the generator's queries and keys, as in the authors' code.
        mask_weight: ≥ 0, weight of the penalty `|mean(M_f) − λ|` in the generator's loss.

    Source: Peng, Tang, Yang, ICLR 2025, arXiv 2502.10288.
    """

    lr_gen: float = 1e-3
    omega: float = 1.0
    tau_gen: float = 1.0
    tau_mix: float = 1.0
    tau_real: float = 5.0
    gen_interval: int = 4
    stage: str = "pool2"
    mixing: str = "mixblock"
    real: bool = True
    adversary: str = "unlearner"
    lam_concat: bool = True
    relu: bool = False
    mask_weight: float = 0.0

    def prepare(self, context: Context) -> None:
        """Build the unlearner, and the generator if `mixing` uses it."""
        super().prepare(context)
        if self.mixing != "mixblock":
            return
        channels = self.channels()
        # On the CPU, so that the weights do not depend on the device.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for("generator", context.seed))
            generator = MixBlock(channels, lam_concat=self.lam_concat, relu=self.relu)
        self.generator = generator.to(context.device)
        self.generator_optimizer = adam(self.generator, self.lr_gen)
        self.ema = deepcopy(self.model).eval().requires_grad_(False)

    def channels(self) -> int:
        """Return the number of channels that the generator reads.

        Raises:
            InputError: there are no features of this stage.
        """
        first = torch.zeros(1, dtype=torch.int64, device=self.context.device)
        pair = self.context.forget.batch(first), self.context.retain.batch(first)
        try:
            return self.features(*pair, first, first)[0].shape[1]
        except KeyError as error:
            remedy = "the generator needs features of this stage; choose another, or mixing=mixup"
            raise InputError("search.space.stage", self.stage, remedy) from error

    def step_kind(self) -> Hashable:
        """Return whether the generator is due."""
        # Step 0 is always due, so every epoch has the generator's scalars, as the contract demands.
        return self.mixing == "mixblock" and self.step_number % self.gen_interval == 0

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        """Take one step of the unlearner, and of the generator when it is due."""
        forget = self.images(self.context.forget, forget_B)
        retain = self.images(self.context.retain, retain_B)
        scalars: dict[str, Tensor] = {}
        if self.step_kind():
            scalars = self.update_generator(forget, retain, forget_B, retain_B)
        return scalars | self.update_unlearner(forget, retain, forget_B, retain_B)

    def update_generator(
        self, forget: Tensor, retain: Tensor, forget_B: Tensor, retain_B: Tensor
    ) -> dict[str, Tensor]:
        """Take one step of the generator; the unlearner does not change at all."""
        lam = self.draw_lambda()
        masks = self.masks(forget, retain, forget_B, retain_B, lam)
        with self.opponent() as adversary:
            u_mix = torch.softmax(adversary(mix(masks, forget, retain)), dim=1)
        loss = self.mixed_loss(u_mix, forget_B, retain_B, lam, self.tau_gen)
        loss = loss if self.adversary == "none" else -loss
        if self.mask_weight:
            loss = loss + self.mask_weight * (masks[:, 0].mean() - lam.to(masks.dtype)).abs()
        self.step(loss, optimizer=self.generator_optimizer)
        return {"loss_gen": loss.detach(), "mask_forget": masks[:, 0].mean().detach()}

    def update_unlearner(
        self, forget: Tensor, retain: Tensor, forget_B: Tensor, retain_B: Tensor
    ) -> dict[str, Tensor]:
        """Take one step of the unlearner; the generator does not change at all."""
        losses = self.losses(forget, retain, forget_B, retain_B)
        loss = torch.stack(list(losses.values())).sum()
        self.step(loss)
        if self.adversary == "ema" and self.mixing == "mixblock":
            self.update_ema()
        return {"loss": loss.detach(), **{name: part.detach() for name, part in losses.items()}}

    def losses(
        self, forget: Tensor, retain: Tensor, forget_B: Tensor, retain_B: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms of the unlearner's loss in this variant, by name."""
        lam = self.draw_lambda()
        images = [retain, forget] if self.real else []
        if self.mixing != "none":
            # Appended last, whether there are real images or not: see `outputs[-1]`.
            images.append(self.mixture(forget, retain, forget_B, retain_B, lam))
        outputs = self.outputs(*images)
        losses: dict[str, Tensor] = {}
        if self.mixing != "none":
            u_mix = outputs[-1]
            losses["loss_mix"] = self.mixed_loss(u_mix, forget_B, retain_B, lam, self.tau_mix)
        if self.real:
            u_retain, u_forget = outputs[:2]
            loss_real = self.real_loss(u_forget, u_retain, forget_B, retain_B, self.tau_real)
            losses["loss_real"] = self.omega * loss_real
        return losses

    @torch.no_grad()
    def mixture(
        self, forget: Tensor, retain: Tensor, forget_B: Tensor, retain_B: Tensor, lam: Tensor
    ) -> Tensor:
        """Return the mixed images of a batch, without a gradient for the generator."""
        if self.mixing == "mixup":
            return lam * forget + (1 - lam) * retain
        return mix(self.masks(forget, retain, forget_B, retain_B, lam), forget, retain)

    @torch.no_grad()
    def demonstrate(
        self, forget_B: Tensor, retain_B: Tensor, lam_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the generator's masks and mixed images of pairs, for display.

        Args:
            forget_B: indices into D_f.
            retain_B: indices into D_r.
            lam_B: λ of each pair, in (0, 1).

        Returns:
            M_f, the forget image's share in each pixel, (B, H, W); the mixed images in [0, 1],
            (B, C, H, W).
        """
        forget, retain = (
            self.context.forget.batch(forget_B),
            self.context.retain.batch(retain_B),
        )
        masks = self.masks(forget, retain, forget_B, retain_B, lam_B)
        return masks[:, 0], mix(masks, forget, retain)

    def masks(
        self, forget: Tensor, retain: Tensor, forget_B: Tensor, retain_B: Tensor, lam: Tensor
    ) -> Tensor:
        """Return the generator's masks, shape (B, 2, H, W)."""
        h_forget, h_retain = self.features(forget, retain, forget_B, retain_B)
        size = (forget.shape[2], forget.shape[3])
        masks: Tensor = self.generator(h_forget, h_retain, lam, size)
        return masks

    @torch.no_grad()
    def features(
        self, forget: Tensor, retain: Tensor, forget_B: Tensor, retain_B: Tensor
    ) -> Sequence[Tensor]:
        """Return the original's features of the images, each (B, C, h, w).

        Those of plain images are known. In augmented images, everything is in another place.

        Raises:
            KeyError: there are none of this stage.
        """
        context = self.context
        if context.augmentation == "none":
            known = (context.forget, forget_B), (context.retain, retain_B)
            return [samples.features[self.stage][indices_B] for samples, indices_B in known]
        both = torch.cat((forget, retain))
        _, found = context.original.forward_with_features(both, (self.stage,))
        return found[self.stage][: len(forget)], found[self.stage][len(forget) :]

    @contextmanager
    def opponent(self) -> Iterator[StagedModel]:
        """Yield the model that computes the generator's loss, frozen.

        The original and the average are always frozen; the unlearner only within the context.
        """
        frozen = {"original": self.context.original, "ema": self.ema}
        if self.adversary in frozen:
            yield frozen[self.adversary]
            return
        # In training mode, batch norm would add the mixtures to the unlearner's statistics.
        self.model.eval().requires_grad_(False)
        try:
            yield self.model
        finally:
            self.set_mode()
            self.model.thaw()

    @torch.no_grad()
    def update_ema(self) -> None:
        """Move the averaged unlearner one step towards the current one."""
        for weight, current in zip(self.ema.parameters(), self.model.parameters(), strict=True):
            weight.lerp_(current, 1 - EMA_DECAY)
        # Batch norm's statistics are averages already, and its counter is an integer.
        for buffer, latest in zip(self.ema.buffers(), self.model.buffers(), strict=True):
            buffer.copy_(latest)

    def parts(self) -> dict[str, Stateful]:
        """Return by name everything that training changes."""
        parts = super().parts()
        if self.mixing == "mixblock":
            parts |= {"generator": self.generator, "generator_optimizer": self.generator_optimizer}
            parts |= {"ema": self.ema} if self.adversary == "ema" else {}
        return parts
