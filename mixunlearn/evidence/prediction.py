"""Predicts the bias of the next request from proxies, without retraining for that request.

A proxy is a random forget set of the same size and kind. It is unlearned like a request, and one
model is retrained without it. The difference of the two in a metric is what the verdict on that
request would have measured with one reference.

The prediction rests on one assumption: the next request is exchangeable with the proxies. So it is
a random request of the same size and kind, for the same model, training recipe and configuration
of the method. Images that somebody chose, for example all photos of one person or the hardest
images, may behave in another way, and no proxy shows that.

The interval is the one for a single new value, not for a mean: it holds the spread of requests, of
unlearning and of retraining. More proxies make it more certain, but never narrower than that.
Each metric has its own interval: that all of them hold at once is less probable than 90 %.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import special

from mixunlearn.errors import InputError
from mixunlearn.evidence.equivalence import LEAST
from mixunlearn.evidence.estimate import LEVEL, variance
from mixunlearn.plain import plain
from mixunlearn.wording import counted

WITHIN = "predicted within the margins"
NOT_WITHIN = "no prediction of equivalence"
NONE = "no prediction"
ALIKE = 1.25  # factor by which the sizes of requests may differ and still count as the same
STATES = (WITHIN, NOT_WITHIN, NONE)

State: TypeAlias = Literal["within", "outside", "open", "unknown"]


@dataclass(frozen=True, kw_only=True)
class PredictedBias:
    """The bias that is predicted for the next request in one metric, in the metric's unit.

    Args:
        metric: its name.
        bias: mean difference of the proxies, unlearned − retrained; NaN without a proxy.
        low, high: 90 % interval for the next request; infinite if the spread is unknown.
        margin: the largest bias that counts as equivalent.
        step: the smallest spread that the interval assumes: the effect of one image.
    """

    metric: str
    bias: float
    low: float = -math.inf
    high: float = math.inf
    margin: float
    step: float = 0.0

    @property
    def state(self) -> State:
        """Return where the interval lies: "within" ± margin, "outside" of it, or "open".

        "unknown" if there is no interval.
        """
        if not math.isfinite(self.high - self.low):
            return "unknown"
        if -self.margin < self.low and self.high < self.margin:
            return "within"
        return "outside" if self.low > self.margin or self.high < -self.margin else "open"

    @property
    def coarse(self) -> bool:
        """Return whether one image alone moves the metric by its margin or more."""
        return self.step >= self.margin


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What is predicted for the next request.

    Args:
        state: one of `STATES`; only `WITHIN` speaks for equivalence.
        reasons: sentences without a full stop.
        proxies: number of proxies, with those on which unlearning diverged.
        metrics: one for each metric that has a margin.
    """

    state: str
    reasons: Sequence[str]
    proxies: int
    metrics: Sequence[PredictedBias]

    def as_plain(self) -> dict[str, Any]:
        """Return it as plain data for JSON; infinite and undefined numbers become null."""
        metrics = {
            each.metric: {name: getattr(each, name) for name in ("bias", "low", "high", "margin")}
            for each in self.metrics
        }
        found: dict[str, Any] = plain(
            {"state": self.state, "proxies": self.proxies, "metrics": metrics}
        )
        return found


def predict(
    differences: Mapping[str, Sequence[float]],
    margins: Mapping[str, float],
    resolution: Mapping[str, float],
    *,
    diverged: int = 0,
) -> Prediction:
    """Return what is predicted for the next request; see this module for what that assumes.

    Args:
        differences: metric -> for each proxy: unlearned − retrained, in the metric's unit.
        margins: metric -> the largest bias that counts as equivalent, > 0.
        resolution: metric -> its smallest step, >= 0. Differences that are alike by chance say
            little about the next one, so the spread is never taken to be smaller than this.
        diverged: number of further proxies whose unlearning diverged, so that they have no values.

    Raises:
        InputError: a metric has no differences or no margin above 0, one is not finite, or metrics
            have different numbers of them.
    """
    _require(differences, margins)
    proxies = len(next(iter(differences.values()), ()))
    found = [
        predicted_bias(name, differences[name], margin, resolution.get(name, 0.0))
        for name, margin in margins.items()
    ]
    inside = not diverged and all(each.state == "within" for each in found)
    state, reasons = WITHIN if inside else NOT_WITHIN, _reasons(found)
    if proxies < LEAST:
        state = NONE
        reasons = [f"{counted(proxies, 'proxy')} measured: a prediction needs {LEAST}"]
    reasons = [*_diverged(diverged), *reasons]
    return Prediction(state=state, reasons=reasons, proxies=proxies + diverged, metrics=found)


def predict_from(
    proxies: Mapping[str, Any],
    margins: Mapping[str, float],
    *,
    kind: str | None = None,
    images: int | None = None,
) -> Prediction:
    """Return what is predicted from the `proxies` of a sweep's summary.

    Args:
        proxies: `{"metrics": {name: {"differences": [...], "resolution": step}}, "diverged": n,
            "kind": kind, "images": n}`.
        margins: metric -> the largest bias that counts as equivalent.
        kind: of the request's task; `None`: that of the proxies.
        images: number of the request's images; `None`: that of the proxies. Of another kind, or
            with a size that differs by more than a factor of `ALIKE`, nothing is predicted.

    Raises:
        InputError: as for `predict`.
    """
    metrics = proxies["metrics"]
    found = predict(
        # All proxies may have diverged: then there are no metrics.
        {name: metrics[name]["differences"] if metrics else [] for name in margins},
        margins,
        {name: each["resolution"] for name, each in metrics.items()},
        diverged=proxies.get("diverged", 0),
    )
    wrong = list[str]()
    if kind is not None and kind != proxies["kind"]:
        wrong.append(f"the proxies are requests of kind {proxies['kind']}, not {kind}")
    if images is not None and not 1 / ALIKE <= images / proxies["images"] <= ALIKE:
        wrong.append(f"the proxies are of {counted(proxies['images'], 'image')}, not {images}")
    return replace(found, state=NONE, reasons=wrong) if wrong else found


def predicted_bias(
    metric: str, differences: Sequence[float], margin: float, step: float
) -> PredictedBias:
    """Return the predicted bias of one metric.

    The interval is Student's for a new value: mean ± t(K − 1) · s · sqrt(1 + 1 / K) of K proxies.

    Args:
        metric: its name.
        differences: one for each proxy.
        margin: the largest bias that counts as equivalent.
        step: the smallest spread s that is assumed.
    """
    count = len(differences)
    mean = float(np.mean(differences)) if count else math.nan
    found = PredictedBias(metric=metric, bias=mean, margin=margin, step=step)
    if count < LEAST:
        return found
    spread = max(math.sqrt(variance(differences)), step)
    if not spread:  # equal values, and nothing is known about how fine they are
        return found
    quantile = float(special.stdtrit(count - 1, 1 - LEVEL))
    half = quantile * spread * math.sqrt(1 + 1 / count)
    return PredictedBias(
        metric=metric, bias=mean, low=mean - half, high=mean + half, margin=margin, step=step
    )


def _require(differences: Mapping[str, Sequence[float]], margins: Mapping[str, float]) -> None:
    """Check that each metric with a margin has as many finite differences as the others."""
    if not margins:
        raise InputError("margins", dict(margins), "name at least one metric")
    first = len(differences.get(next(iter(margins)), ()))
    for name, margin in margins.items():
        if not 0 < margin < math.inf:
            raise InputError(f"margins.{name}", margin, "must be finite and above 0")
        values = np.asarray(differences.get(name, ()), float)
        if len(values) != first or (first == 0 and name not in differences):
            remedy = f"must be {first}: each proxy needs a value of each metric"
            raise InputError(f"number of differences of {name}", len(values), remedy)
        if not np.isfinite(values).all():
            raise InputError(f"differences.{name}", list(values), "must be finite numbers")


def _diverged(count: int) -> list[str]:
    return [f"unlearning diverged on {counted(count, 'proxy')}"] if count else []


def _reasons(found: Sequence[PredictedBias]) -> list[str]:
    inside = sum(each.state == "within" for each in found)
    said = [f"{inside} of {counted(len(found), 'metric')} predicted within the margins"]
    for state, words in (
        ("outside", "predicted outside the margin"),
        ("open", "the interval reaches beyond the margin"),
        ("unknown", "the spread is unknown"),
    ):
        if names := [each.metric for each in found if each.state == state]:
            said.append(f"{words}: {', '.join(names)}")
    if coarse := [each.metric for each in found if each.coarse and each.state != "within"]:
        few = "so few images that one of them moves the metric by its margin"
        said.append(f"{few}: {', '.join(coarse)}")
    return said
