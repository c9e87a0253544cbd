"""Predictions of a model on many images."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mixunlearn.data.batches import Samples
from mixunlearn.models import StagedModel

BATCH = 256  # limits memory only: in evaluation mode, samples do not affect each other


@torch.no_grad()
def predict(
    model: StagedModel, images_NCHW: Tensor, stages: Iterable[str] = ()
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return softmax outputs (N, K) and the features of the named stages, each (N, C, h, w).

    Features are float16: they need half the memory, and the masks made from them do not differ
    visibly.

    Args:
        model: it is put into evaluation mode.
        images_NCHW: uint8, on the model's device; at least one.
        stages: names of the stages whose features are returned.
    """
    model.eval()
    samples, names = Samples(images_NCHW=images_NCHW), tuple(stages)
    order = torch.arange(len(samples), device=images_NCHW.device)
    parts = [
        model.forward_with_features(samples.batch(indices_B), names)
        for indices_B in torch.split(order, BATCH)
    ]
    probs_NK = torch.cat([torch.softmax(logits, dim=1) for logits, _ in parts])
    features = {name: torch.cat([found[name].half() for _, found in parts]) for name in names}
    return probs_NK, features
