"""Predictions of a model on many images."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mixunlearn.data.batches import Samples
from mixunlearn.models import StagedModel

BATCH = 256


@torch.no_grad()
def predict(
    model: StagedModel, images_NFHW: Tensor, stages: Iterable[str] = ()
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return softmax outputs (N, C) and the features of the named stages, each (N, F, h, w).

    Features come in float16: half the memory, and the masks made from them do not show it.

    Args:
        model: is put into evaluation mode.
        images_NFHW: uint8, on the model's device; at least one.
        stages: names of the stages whose features are wanted.
    """
    model.eval()
    samples, names = Samples(images_NFHW=images_NFHW), tuple(stages)
    order = torch.arange(len(samples), device=images_NFHW.device)
    parts = [
        model.forward_with_features(samples.batch(indices_B), names)
        for indices_B in torch.split(order, BATCH)
    ]
    probs_NC = torch.cat([torch.softmax(logits, dim=1) for logits, _ in parts])
    features = {name: torch.cat([found[name].half() for _, found in parts]) for name in names}
    return probs_NC, features
