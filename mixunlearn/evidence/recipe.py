"""How near a recipe comes to a model that was trained elsewhere: references show it only then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

COMPARED = ("acc/train_retain", "acc/train_forget", "acc/test", "mia/asr")
LEVEL = 0.95  # of the interval in which one more model of the recipe is expected
FEW_MARGINS = 2.0  # without a spread, so many margins are near


@dataclass(frozen=True, kw_only=True)
class Nearness:
    """One metric of a user's own model beside those of originals that a recipe has trained.

    Args:
        metric: its name.
        own: its value of the user's model, in its unit.
        values: those of the recipe's originals.
        margin: the metric's margin, in its unit.
    """

    metric: str
    own: float
    values: Sequence[float]
    margin: float

    @property
    def mean(self) -> float | None:
        """The mean of the recipe's originals; `None` without any."""
        return float(np.mean(self.values)) if self.values else None

    @property
    def sd(self) -> float | None:
        """Their standard deviation (n − 1); `None` with fewer than two."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    @property
    def half(self) -> float:
        """Half the width of the interval in which one more original is expected.

        From two originals on, this is Student's 95 % prediction interval, and at least a margin:
        smaller differences count as none. Of a single original, it is two margins.
        """
        if self.sd is None:
            return FEW_MARGINS * self.margin
        count = len(self.values)
        factor = special.stdtrit(count - 1, (1 + LEVEL) / 2) * np.sqrt(1 + 1 / count)
        return max(float(factor) * self.sd, self.margin)

    @property
    def difference(self) -> float | None:
        """The user's value minus the recipe's mean; `None` without a mean."""
        return None if self.mean is None else self.own - self.mean

    @property
    def near(self) -> bool | None:
        """Whether the user's value is one that the recipe gives; `None` if that is unknown."""
        return None if self.difference is None else abs(self.difference) <= self.half

    def as_plain(self) -> dict[str, Any]:
        """Return all as plain data; the interval is null without originals of the recipe."""
        mean = self.mean
        return {
            "own": self.own,
            "recipe": {"mean": mean, "sd": self.sd, "n": len(self.values), "values": self.values},
            "difference": self.difference,
            "interval": None if mean is None else [mean - self.half, mean + self.half],
            "margin": self.margin,
            "near": self.near,
        }


def compare(
    own: Mapping[str, float], recipe: Sequence[Mapping[str, float]], margins: Mapping[str, float]
) -> list[Nearness]:
    """Return the nearness in each metric that was measured.

    Args:
        own: metrics of the user's model.
        recipe: metrics of the originals that the recipe has trained; it may be empty.
        margins: by metric; which metrics are compared.
    """
    return [
        Nearness(
            metric=name,
            own=own[name],
            values=[each[name] for each in recipe],
            margin=margin,
        )
        for name, margin in margins.items()
        if name in own and all(name in each for each in recipe)
    ]
