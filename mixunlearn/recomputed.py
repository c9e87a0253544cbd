"""The original's features of a batch, computed when they are needed: all of them take too much.

Shape suffixes: B batch, C channels, h w positions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixunlearn.data.batches import Samples
from mixunlearn.models import StagedModel


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """Features of one stage, as `Samples.features` has them.

    They are rounded to float16 like stored ones. They may differ from those by one such rounding,
    a factor of at most 1 ± 2^-10: a model's last float32 digits depend on the size of a batch.

    Args:
        original: frozen, in evaluation mode.
        samples: whose features they are.
        stage: name of the stage.
    """

    original: StagedModel
    samples: Samples
    stage: str

    @torch.no_grad()
    def __getitem__(self, indices_B: Tensor) -> Tensor:
        """Return the features of a batch, (B, C, h, w), float32."""
        images = self.samples.batch(indices_B)
        with torch.autocast(images.device.type, enabled=False):
            _, found = self.original.forward_with_features(images, (self.stage,))
        features = found[self.stage].float()
        half = features.half()
        # Beyond float16's range as they are; stored features are then float32 as a whole.
        return torch.where(half.isfinite(), half.float(), features)
