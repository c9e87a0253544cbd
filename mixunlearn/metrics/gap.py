"""Gaps: how far an unlearned model is from models retrained without the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mixunlearn.effort import ALONE, Retraining
from mixunlearn.metrics.divergence import js_divergence

DECIMALS = 9  # a mean of equal numbers can differ from them in the last bit, which is not a gap


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The metrics of one model on one evaluation set.

    Args:
        metrics: accuracies and attack success in percent, by name.
        forget_probs_NK: softmax outputs on the evaluated forget images, float32.
    """

    metrics: Mapping[str, float]
    forget_probs_NK: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ReferenceSet:
    """Evaluations of the models retrained without the forget set, on one evaluation set.

    Args:
        evaluations: one for each reference, at least one.
        seconds: training time of each reference.
        gap_metrics: the metrics whose mean gap is `gap/avg`: those of the task's table.
        resolution: metric -> its smallest step: 100 / n for a share of n samples.
        margins: metric of the task's table -> its margin; `gap/worst` is in units of it.
        at_once: how many trainings may have shared the device; see `Retraining`.
        images: images that passed through each reference in its training; `None`: unknown.
    """

    evaluations: Sequence[Evaluation]
    seconds: Sequence[float]
    gap_metrics: Sequence[str]
    resolution: Mapping[str, float]
    margins: Mapping[str, float] = field(default_factory=dict)
    at_once: int | None = ALONE
    images: int | None = None

    @property
    def retraining(self) -> Retraining:
        """What one retraining costs."""
        return Retraining(seconds=self.seconds, at_once=self.at_once, images=self.images)

    def values(self, metric: str) -> list[float]:
        """Return each reference's value of a metric; `div/js` compares it with the others."""
        if metric == "div/js":
            return [
                # Its divergence from itself is 0, which would make the spread too small.
                self.without(i).divergence(evaluation)
                for i, evaluation in enumerate(self.evaluations)
                if len(self.evaluations) > 1
            ]
        return [evaluation.metrics[metric] for evaluation in self.evaluations]

    def without(self, index: int) -> "ReferenceSet":
        """Return the set without one reference, to compare that one with the others."""
        kept = [i for i in range(len(self.evaluations)) if i != index]
        return replace(
            self,
            evaluations=[self.evaluations[i] for i in kept],
            seconds=[self.seconds[i] for i in kept],
        )

    def divergence(self, evaluation: Evaluation) -> float:
        """Return the mean Jensen-Shannon divergence to the references on D_f, in nats."""
        return float(
            np.mean(
                [
                    js_divergence(evaluation.forget_probs_NK, reference.forget_probs_NK)
                    for reference in self.evaluations
                ]
            )
        )

    def compare(self, evaluation: Evaluation) -> dict[str, float]:
        """Return an evaluation's metrics with `gap/<metric>`, `z/<metric>`, `gap/avg`, `gap/worst`.

        A gap is the distance to the references' mean, in the metric's unit. z is the signed
        distance in the references' standard deviations (n − 1), or in the metric's resolution
        if the standard deviation is smaller than that. With one reference, there is no z, and
        `div/js` has no gap. With two references, `div/js` has no z, because the distance between
        them is the same in both directions. `gap/worst` is the largest gap of the task's table in
        units of its margin: 1 is at the margin. There is none without margins.
        """
        metrics = {**evaluation.metrics, "div/js": self.divergence(evaluation)}
        result = dict(metrics)
        for name, value in metrics.items():
            references = np.array(self.values(name))
            if len(references):
                result[f"gap/{name}"] = abs(value - references.mean())
            if len(references) > 1:
                spread = max(references.std(ddof=1), self.resolution.get(name, 0.0))
                # 0 for two references: their divergence is the same in both directions.
                if spread:
                    result[f"z/{name}"] = (value - references.mean()) / spread
        result["gap/avg"] = float(np.mean([result[f"gap/{name}"] for name in self.gap_metrics]))
        if self.margins:
            result["gap/worst"] = max(result[f"gap/{name}"] / m for name, m in self.margins.items())
        return {name: round(float(value), DECIMALS) for name, value in result.items()}

    def own_gaps(self) -> list[float]:
        """Return the `gap/avg` of each reference against the others; empty if there is only one."""
        if len(self.evaluations) < 2:  # noqa: PLR2004
            return []
        return [
            self.without(i).compare(evaluation)["gap/avg"]
            for i, evaluation in enumerate(self.evaluations)
        ]
