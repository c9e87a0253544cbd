"""Predictions of a model on many images."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mixunlearn.data.batches import Samples
from mixunlearn.errors import DivergedError
from mixunlearn.models import StagedModel

BATCH = 256  # limits memory only: in evaluation mode, samples do not affect each other


@torch.no_grad()
def predict(
    model: StagedModel, images_NCHW: Tensor, stages: Iterable[str] = ()
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return softmax outputs (N, K) and the features of the named stages, each (N, C, h, w).

    Features are float16 if its range is wide enough, else float32; see `compact`.

    Args:
        model: it is put into evaluation mode.
        images_NCHW: uint8 or floating point, on the model's device; at least one.
        stages: names of the stages whose features are returned.

    Raises:
        DivergedError: an output or a feature is not finite. It must not count: argmax of NaN is a
            class as well.
    """
    model.eval()
    samples, names = Samples(images_NCHW=images_NCHW), tuple(stages)
    order = torch.arange(len(samples), device=images_NCHW.device)
    parts = [
        model.forward_with_features(samples.batch(indices_B), names)
        for indices_B in torch.split(order, BATCH)
    ]
    probs_NK = torch.cat([torch.softmax(logits, dim=1) for logits, _ in parts])
    features = {name: torch.cat([compact(found[name]) for _, found in parts]) for name in names}
    for name, found in {"output": probs_NK, **features}.items():
        if not found.isfinite().all():
            raise DivergedError(f"{name} of the model is not finite")
    return probs_NK, features


def compact(features: Tensor) -> Tensor:
    """Return features as float16; as float32 if one is beyond its range, ±65,504.

    float16 needs half the memory, and the masks made from it do not differ visibly.
    """
    half = features.half()
    return half if half.isfinite().all() else features
