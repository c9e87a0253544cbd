"""Repeated noise injection: each epoch disturbs and trains a few layers, drawn at random."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mixunlearn.methods.base import Context
from mixunlearn.methods.finetune import Finetune
from mixunlearn.methods.layers import last_layer, renew
from mixunlearn.methods.scheduled import Scheduled
from mixunlearn.methods.schedules import set_rate
from mixunlearn.models import StagedModel


@dataclass(kw_only=True)
class RepeatedNoiseInjection(Finetune, Scheduled):
    """Minimise `CE(D_r)` over a few tensors of weights at a time, after noise on most of these.

    The last layer starts untrained. Each epoch but the last `fine_epochs` draws `tensors` of the
    model's tensors of weights and trains only these and those of norms. From the second epoch on,
    Gaussian noise is added before to a share of the drawn ones. The last `fine_epochs` train all
    weights without noise. Each epoch has a new optimizer: by default SGD, as in the authors' code.

    Deviation: all norms are trained in each epoch; the authors recognise them by the letters "bn",
    which those in shortcuts of a ResNet lack.

    Args:
        lr: learning rate > 0 of all epochs but the last.
        lr_last: learning rate > 0 of the last epoch of the run.
        tensors: number of tensors that an epoch draws, at least 1.
        noise: standard deviation ≥ 0, in units of the weights.
        noise_share: share of the drawn tensors that noise is added to, in [0, 1], rounded down.
        fine_epochs: number of last epochs that train all weights, at least 0.
        schedule_epochs: epochs of the run, at least 1; a search and `unlearn` fill it in unless it
            is given.

    Source: an entry to the NeurIPS 2023 unlearning challenge; Cadet et al., arXiv 2410.01276 (RNI).
    """

    course = "schedule_epochs"

    lr: float = 2e-4
    batch: int = 64
    optimizer: str = "sgd"
    weight_decay: float = 5e-4
    lr_last: float = 1e-3
    tensors: int = 9
    noise: float = 0.04
    noise_share: float = 0.7
    fine_epochs: int = 4
    schedule_epochs: int = 9

    def start(self, context: Context) -> StagedModel:
        """Return a copy of the original whose last layer is untrained."""
        model = super().start(context)
        renew(model, context, last_layer(model))
        return model

    def epoch(self) -> dict[str, float]:
        """Disturb and train a few tensors, or train all."""
        self.model.thaw()
        if self.epochs_done < self.schedule_epochs - self.fine_epochs:
            self.choose()
        self.stepper = self.stepper_for(self.model, self.lr)
        if self.epochs_done >= self.schedule_epochs - 1:
            set_rate(self.stepper, self.lr_last)
        return super().epoch()

    def choose(self) -> None:
        """Draw the tensors of the epoch, freeze the others, and add noise to some."""
        norms = norm_weights(self.model)
        places = [place for place in self.model.trained() if id(place[1]) not in norms]
        # The order of a permutation is random too: its beginning is a random part of the drawn.
        drawn = self.rng.permutation(len(places))[: self.tensors]
        for place, (_, weight) in enumerate(places):
            weight.requires_grad_(place in drawn)
        if self.epochs_done > 0:
            for place in drawn[: int(self.noise_share * len(drawn))]:
                self.disturb(places[place][1])

    @torch.no_grad()
    def disturb(self, weight: nn.Parameter) -> None:
        """Add noise to a tensor of weights."""
        # On the CPU, so that the noise does not depend on the device.
        drawn = torch.from_numpy(self.rng.standard_normal(weight.shape)).to(weight.dtype)
        weight.add_(self.noise * drawn.to(weight.device))


def norm_weights(model: nn.Module) -> set[int]:
    """Return the ids of the parameters of all norms."""
    norms = (_NormBase, nn.LayerNorm, nn.GroupNorm)
    found = (module for module in model.modules() if isinstance(module, norms))
    return {id(weight) for module in found for weight in module.parameters()}
