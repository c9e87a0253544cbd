"""What a classifier makes of an image before it decides on a class.

Shape suffixes: N samples, C channels, h w positions, E features.
"""

from copy import deepcopy

import torch
from torch import Tensor

from mixunlearn.data.batches import Samples
from mixunlearn.errors import DivergedError, InputError
from mixunlearn.inference import predict
from mixunlearn.models import StagedModel
from mixunlearn.models.ensemble import Ensemble
from mixunlearn.representation import representations


def features(model: StagedModel, samples: Samples) -> Tensor:
    """Return what the model's classifier gets as input, float32, shape (N, E).

    That is the input of its last linear layer. If its last layer is not linear, it is the mean over
    all positions of its last feature stage. For an ensemble, it is that of all members in a row.

    Args:
        model: not changed, not even its mode.
        samples: at least one, on the model's device.

    Raises:
        InputError: the model has neither a linear last layer nor a feature stage.
        DivergedError: a feature is not finite.
    """
    found_NE = _found(model, samples)
    if not found_NE.isfinite().all():
        raise DivergedError("features of the model are not finite")
    return found_NE


def _found(model: StagedModel, samples: Samples) -> Tensor:
    if isinstance(model, Ensemble):
        parts = [_found(member, samples) for member in model.members]  # type: ignore[arg-type]
        return torch.cat(parts, dim=1)
    model = deepcopy(model).eval()
    try:
        return representations(model, samples).float()
    except InputError:
        if not model.stage_names:
            raise
    last = model.stage_names[-1]
    found_NChw = predict(model, samples.images_NCHW, [last])[1][last]
    return found_NChw.float().mean(dim=(2, 3))
