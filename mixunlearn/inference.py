"""Predictions of a model on many images.

Shape suffixes: N samples, K classes, C channels, h w positions.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from mixunlearn.data.batches import Samples
from mixunlearn.data.streaming import Images
from mixunlearn.errors import DivergedError
from mixunlearn.models import StagedModel

OUTPUT = ""  # no stage has this name


@torch.no_grad()
def predict(
    model: StagedModel, images_NCHW: Images, stages: Iterable[str] = ()
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return softmax outputs (N, K) and the features of the named stages, each (N, C, h, w).

    Features are float16 if its range is wide enough, else float32; see `compact`. Images go through
    the model in batches (`Samples.in_order`): in evaluation mode, they do not affect each other.

    Args:
        model: it is put into evaluation mode.
        images_NCHW: uint8 or floating point, on the model's device, or streamed to it; at least
            one.
        stages: names of the stages whose features are returned.

    Raises:
        DivergedError: an output or a feature is not finite. It must not count: argmax of NaN is a
            class as well.
    """
    model.eval()
    samples, names = Samples(images_NCHW=images_NCHW), tuple(stages)
    parts: dict[str, list[Tensor]] = {name: [] for name in (OUTPUT, *names)}
    finite: dict[str, list[Tensor]] = {name: [] for name in parts}
    for indices_B in samples.in_order():
        logits, found = model.forward_with_features(samples.batch(indices_B), names)
        # Made smaller at once: of all images together, float32 would take twice the memory.
        small = {name: compact(found[name]) for name in names}
        for name, tensor in {OUTPUT: torch.softmax(logits, dim=1), **small}.items():
            parts[name].append(tensor)
            finite[name].append(tensor.isfinite().all())
    for name, flags in finite.items():
        if not torch.stack(flags).all():
            raise DivergedError(f"{name or 'output'} of the model is not finite")
    probs_NK = torch.cat(parts.pop(OUTPUT))
    return probs_NK, {name: torch.cat(parts.pop(name)) for name in names}


def compact(features: Tensor) -> Tensor:
    """Return features as float16; as float32 if one is beyond its range, ±65,504.

    float16 needs half the memory, and the masks made from it do not differ visibly.
    """
    half = features.half()
    return half if half.isfinite().all() else features
