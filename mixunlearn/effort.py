"""What unlearning has cost: time, and images that passed through models."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixunlearn.passes import Passes

ALONE = 1


def most_at_once(numbers: Sequence[int | None]) -> int | None:
    """Return how many may have shared a device at most; `None` if one of the numbers is unknown."""
    known = [number for number in numbers if number is not None]
    return max(known, default=ALONE) if len(known) == len(numbers) else None


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What one unlearning has cost.

    Args:
        seconds: time to unlearn, without measuring.
        passes: images that passed through models; `None`: not counted.
        at_once: how many trials may have shared the device, this one included; 1: it was alone.
        retraining_s: seconds of one retraining, measured with the device to itself beside this
            unlearning; `None`: not measured.
    """

    seconds: float
    passes: Passes | None = None
    at_once: int = ALONE
    retraining_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """What one retraining costs: what unlearning is compared with.

    Args:
        seconds: of each reference.
        at_once: how many trainings may have shared the device; 1: each had it to itself; `None`:
            unknown, because an earlier version trained them.
        images: images that pass through the model, forward and back; `None`: unknown.
    """

    seconds: Sequence[float]
    at_once: int | None = ALONE
    images: int | None = None

    def compare(self, effort: Effort) -> dict[str, float]:
        """Return what an unlearning has cost, also as a share of a retraining where that is fair.

        Times are divided only if both were measured with the device to itself: with neighbours, a
        time says as much about them. Numbers of images can always be divided.
        """
        found: dict[str, float] = {"time/unlearn_s": effort.seconds, "time/at_once": effort.at_once}
        if effort.retraining_s is not None:
            found["time/retrain_s"] = effort.retraining_s
        alone_s = self._alone_s(effort)
        if alone_s and effort.at_once == ALONE:
            found["time/ratio_to_retrain"] = effort.seconds / alone_s
        if effort.passes is not None:
            found["cost/images_forward"] = effort.passes.forward
            found["cost/images_backward"] = effort.passes.backward
            if self.images:
                found["cost/ratio_to_retrain"] = effort.passes.in_training / self.images
        return {name: float(value) for name, value in found.items()}

    def _alone_s(self, effort: Effort) -> float | None:
        if effort.retraining_s is not None:
            return effort.retraining_s
        known = len(self.seconds) and self.at_once == ALONE
        return float(np.mean(self.seconds)) if known else None
