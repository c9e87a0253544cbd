"""Convolution transpose: transpose the kernels, then finetune."""

from dataclasses import dataclass

import torch

from mixunlearn.methods.base import Context
from mixunlearn.methods.finetune import Finetune
from mixunlearn.methods.kernels import kernels
from mixunlearn.models import StagedModel


@dataclass(kw_only=True)
class ConvolutionTranspose(Finetune):
    """Swap height and width of each square convolution kernel, then minimise `CE(D_r)`.

    Deviation: a constant rate instead of a cosine schedule, and Adam by default. The authors' SGD
    is the search's second trial.

    Source: an entry to the NeurIPS 2023 unlearning challenge; Cadet et al., arXiv 2410.01276 (CT).
    """

    lr: float = 1e-3

    @torch.no_grad()
    def start(self, context: Context) -> StagedModel:
        """Return a copy of the original with its kernels transposed."""
        model = super().start(context)
        for kernel in kernels(model).values():
            # Transposed, a kernel that is not square would have another shape.
            if kernel.shape[2] == kernel.shape[3]:
                # Cloned, because the source and the target of a copy must not share memory.
                kernel.copy_(kernel.transpose(2, 3).clone())
        return model
