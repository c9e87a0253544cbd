"""Several models that are combined into one."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from mixunlearn.models.staged import StagedModel

Weight = TypeVar("Weight")


class Ensemble(StagedModel, counts=False):
    """Classifies with the mean of its members' softmax outputs; it has no feature stages.

    Args:
        members: at least one, all with the same number of outputs.
    """

    def __init__(self, members: Sequence[StagedModel]) -> None:
        super().__init__()
        self.stage_names, self.default_stage = (), ""
        self.members = nn.ModuleList(members)

    def forward_with_features(
        self, images: Tensor, names: Iterable[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the logarithm of the mean softmax as logits; see `StagedModel`."""
        for name in names:
            raise KeyError(name)
        # In log space, because the logarithm of a mean that underflows to 0 is -inf.
        outputs = torch.stack([torch.log_softmax(member(images), 1) for member in self.members])
        return torch.logsumexp(outputs, 0) - math.log(len(self.members)), {}


def split_members(weights: Mapping[str, Weight]) -> list[dict[str, Weight]]:
    """Return the weights of each member by its own names; an empty list if it is no ensemble."""
    parts: dict[str, dict[str, Weight]] = {}
    for name, weight in weights.items():
        match name.split(".", 2):
            case ["members", number, own]:
                parts.setdefault(number, {})[own] = weight
    return list(parts.values())
