"""The original's features of samples by stage, each brought to the device when it is needed.

Shape suffixes: N samples, B batch.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

Found = TypeVar("Found")


class Features(Protocol):
    """Features of one stage: a tensor of all samples, or what computes those of a batch."""

    def __getitem__(self, indices_B: Tensor, /) -> Tensor:
        """Return the features of a batch, (B, C, h, w), float16 or float32."""


class ByStage(Mapping[str, Found]):
    """Something for each stage; what nobody asks for is never loaded.

    Args:
        stages: names.
        load: returns what belongs to a stage; called once for each.
    """

    def __init__(self, stages: Collection[str], load: Callable[[str], Found]) -> None:
        self.stages, self.load = stages, load
        self.loaded: dict[str, Found] = {}

    def __getitem__(self, stage: str) -> Found:
        """Return what belongs to a stage.

        Raises:
            KeyError: there is no such stage.
        """
        if stage not in self.stages:
            raise KeyError(stage)
        if stage not in self.loaded:
            self.loaded[stage] = self.load(stage)
        return self.loaded[stage]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the stages."""
        return iter(self.stages)

    def __len__(self) -> int:
        """Return the number of stages."""
        return len(self.stages)


@dataclass(frozen=True, kw_only=True)
class Selected:
    """Features of some of the samples.

    Args:
        features: of all samples.
        rows_N: which ones, int64, on their device.
    """

    features: Features
    rows_N: Tensor

    def __getitem__(self, indices_B: Tensor) -> Tensor:
        """Return the features of a batch."""
        return self.features[self.rows_N[indices_B]]


def selected(features: Features, rows: Tensor | slice, all_N: Tensor) -> Features:
    """Return the features of some of the samples.

    Args:
        features: of all samples.
        rows: as an index of a tensor.
        all_N: indices of all samples, on the samples' device.
    """
    if isinstance(features, Tensor):
        return features[rows]
    return Selected(features=features, rows_N=all_N[rows])
