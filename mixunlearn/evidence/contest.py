"""The forgetting score of the NeurIPS 2023 unlearning contest.

Two families of attacks look at the margins of one forgotten image and decide whether a model was
unlearned or retrained. The rates of errors of the best attack give an estimate of ε, as in
differential privacy; small ε means that the two kinds of models cannot be told apart. Each image
scores by the bin of its ε, and the score F is the mean.

**Perfect unlearning does not score 1.** The attack is chosen by its success on the very models it
is judged by, among all thresholds. With a threshold far out in a tail, one retrained and k
unlearned models lie beyond it, and ε = log k although only chance decides. More models do not help:
they move the threshold further out, where it is again one model against k. Half of all images end
up with ε ≥ log 5 = 1.6. The score of perfect unlearning, about 0.2, is the ceiling; see `ceiling`.

Shape suffixes: U unlearned models, R retrained models, P, Q models of either kind, N examples,
V sorted margins of both, G gaps between them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixunlearn.evidence.logit_margins import LogitMargins, require_models

Array = npt.NDArray[np.float64]

DELTA = 1e-5
CAP = 50.0  # ε of kinds of models that can always be told apart
PEAKY = 0.01  # a range of margins below this share of the other's gets `CAP`
SLACK = 2.0  # by how much an interval may be wider or narrower than the narrower range of margins
BIN = 0.5  # width of a bin of ε
FEWEST = 3  # models of each kind: with two there is no bin
CHUNK = 1_000_000  # pairs of gaps that are compared at once


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """The score of one method.

    Args:
        score: F, in [0, 1]; retrained models score `ceiling`.
        ceiling: what perfect unlearning scores with as many models; see `ceiling`.
        epsilon_N: of each image, in [0, 50].
    """

    score: float
    ceiling: float
    epsilon_N: Array


def forgetting(unlearned_UN: LogitMargins, retrained_RN: LogitMargins, seed: int = 0) -> Forgetting:
    """Return the forgetting score F, in [0, 1], and its ceiling.

    The contest used 512 models of each kind. Deviation: its code tries thresholds on a grid of
    steps of 0.01; here every threshold is tried that makes a difference, so ε is a little larger
    where many models are close together.

    Args:
        unlearned_UN: margins on the forget set under unlearned models.
        retrained_RN: the same under retrained models.
        seed: of the simulation of the ceiling.

    Source: Triantafillou et al. 2024, arXiv 2406.09073, sections 3 and A.

    Raises:
        ValueError: fewer than 3 models of a kind, no example, or a margin that is not finite.
    """
    require_models(unlearned_UN, retrained_RN, FEWEST)
    epsilon_N = epsilons(unlearned_UN, retrained_RN)
    models = min(len(unlearned_UN), len(retrained_RN))
    spread = float(retrained_RN.std(axis=0, ddof=1).mean())
    return Forgetting(
        score=float(points(epsilon_N, models).mean()),
        ceiling=ceiling(models, spread, seed=seed),
        epsilon_N=epsilon_N,
    )


def contest_score(
    score: float, *, retain: tuple[float, float], held_out: tuple[float, float]
) -> float:
    """Return the contest's final score, F × retain accuracy × test accuracy, both as ratios.

    Args:
        score: F.
        retain: mean accuracy of unlearned and of retrained models on retained images.
        held_out: the same on images never trained on.

    It can be larger than F, if unlearned models are more accurate than retrained ones.
    """
    return score * (retain[0] / retain[1]) * (held_out[0] / held_out[1])


def epsilon(false_positive: Array, false_negative: Array, delta: float = DELTA) -> Array:
    """Return the ε that rates of errors imply: max(log (1−δ−FPR)/FNR, log (1−δ−FNR)/FPR), ≥ 0.

    Infinite if both rates are 0. NaN if only one is: then too few models were beyond the threshold
    to estimate anything, and the contest leaves the attack out.
    """
    positive, negative = np.asarray(false_positive, float), np.asarray(false_negative, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.fmax(
            np.log(1 - delta - positive) - np.log(negative),
            np.log(1 - delta - negative) - np.log(positive),
        )
    found = np.maximum(found, 0.0)
    found = np.where((positive == 0) ^ (negative == 0), np.nan, found)
    return np.where((positive == 0) & (negative == 0), np.inf, found)


def epsilons(unlearned_UN: LogitMargins, retrained_RN: LogitMargins) -> Array:
    """Return the ε of the best attack on each example, in [0, 50], shape (N,)."""
    above_N = np.median(retrained_RN, axis=0) > np.median(unlearned_UN, axis=0)
    # The positive kind is the one with the larger median; the examples of both cases apart,
    # because there may be more models of one kind.
    found_N = np.empty(unlearned_UN.shape[1])
    for chosen_N, positive, negative in (
        (above_N, retrained_RN, unlearned_UN),
        (~above_N, unlearned_UN, retrained_RN),
    ):
        found_N[chosen_N] = _best(positive[:, chosen_N], negative[:, chosen_N])
    return found_N


def points(epsilon_N: Array, models: int) -> Array:
    """Return the points of each example: 1 for ε < 0.5, half of that for each further 0.5.

    0 from ⌈log (models − 1)⌉ on, which is about the largest ε that so many models can show.

    Args:
        epsilon_N: at least 0.
        models: of each kind.
    """
    bins = int(np.ceil(np.log(models - 1)) / BIN)
    bin_N = np.floor(np.asarray(epsilon_N) / BIN)
    return np.where(bin_N < bins, np.exp2(-bin_N), 0.0)


def ceiling(models: int, spread: float, *, examples: int = 400, seed: int = 0) -> float:
    """Return the expected score of perfect unlearning: both kinds of margins are N(0, spread²).

    About 0.2, see docs/metrics.md. Simulated; its standard error is about 0.01. The spread matters,
    because the contest limits the intervals of its second family of attacks in units of the margin:
    if margins vary by 0.5 only, more intervals are allowed, and the ceiling is 0.11 to 0.25.

    Args:
        models: of each kind.
        spread: standard deviation of an example's margin over retrained models.
        examples: to simulate.
        seed: of the simulation.
    """
    rng = np.random.default_rng(seed)
    unlearned, retrained = rng.normal(0.0, spread, size=(2, models, examples))
    return float(points(epsilons(unlearned, retrained), models).mean())


def _best(positive_PN: LogitMargins, negative_QN: LogitMargins) -> Array:
    """Return the largest ε over both families of attacks."""
    ranges = np.ptp(positive_PN, axis=0), np.ptp(negative_QN, axis=0)
    narrow_N, wide_N = np.minimum(*ranges), np.maximum(*ranges)
    # Not in the contest: its code divides by 0 if no model of either kind differs.
    same_N = (wide_N == 0) & (positive_PN[0] == negative_QN[0])
    peaky_N = (narrow_N < PEAKY * wide_N) | ((wide_N == 0) & ~same_N)
    found_N = np.where(peaky_N, CAP, 0.0)
    todo = np.flatnonzero(~peaky_N & ~same_N)
    size = max(1, CHUNK // (len(positive_PN) + len(negative_QN) + 1) ** 2)
    for start in range(0, len(todo), size):
        part = todo[start : start + size]
        found_N[part] = _attacked(positive_PN[:, part], negative_QN[:, part])
    return np.minimum(found_N, CAP)


def _attacked(positive_PN: LogitMargins, negative_QN: LogitMargins) -> Array:
    """Return the largest ε; attacks of which one rate is 0 are left out."""
    one = _Sorted(positive_PN, negative_QN).by_threshold()
    # For intervals, the contest calls the kind with the narrower range positive.
    swapped_N = np.ptp(positive_PN, axis=0) >= np.ptp(negative_QN, axis=0)
    two = np.empty_like(one)
    for chosen_N, inner, outer in (
        (swapped_N, negative_QN, positive_PN),
        (~swapped_N, positive_PN, negative_QN),
    ):
        if chosen_N.any():
            two[chosen_N] = _Sorted(inner[:, chosen_N], outer[:, chosen_N]).by_interval()
    return np.fmax(np.fmax(one, two), 0.0)


class _Sorted:
    """Logit margins of both kinds in one order; gap g lies before the g-th of them."""

    def __init__(self, positive_PN: LogitMargins, negative_QN: LogitMargins) -> None:
        both_VN = np.concatenate((positive_PN, negative_QN))
        order_VN = np.argsort(both_VN, axis=0, kind="stable")
        self.value_VN = np.take_along_axis(both_VN, order_VN, axis=0)
        is_positive_VN = order_VN < len(positive_PN)
        # How many models of a kind are below each gap, as a share.
        self.positive_GN = _cumulated(is_positive_VN) / len(positive_PN)
        self.negative_GN = _cumulated(~is_positive_VN) / len(negative_QN)
        self.low, self.high = positive_PN.min(axis=0), positive_PN.max(axis=0)
        ends = np.full((1, both_VN.shape[1]), np.inf)
        self.below_GN = np.concatenate((-ends, self.value_VN))
        self.above_GN = np.concatenate((self.value_VN, ends))

    def by_threshold(self) -> Array:
        """Return the largest ε of attacks that call margins above a threshold positive."""
        found_GN = epsilon(1 - self.negative_GN, self.positive_GN)
        # No threshold fits between equal margins.
        return _largest(np.where(self.below_GN < self.above_GN, found_GN, np.nan))

    def by_interval(self) -> Array:
        """Return the largest ε of attacks that call margins within an interval positive."""
        inside = [share_GN[None] - share_GN[:, None] for share_GN in self._shares()]
        found_GGN = epsilon(inside[1], 1 - inside[0])
        return _largest(np.where(self._allowed(), found_GGN, np.nan).reshape(-1, len(self.low)))

    def _shares(self) -> tuple[Array, Array]:
        # Rounded, so that differences of shares that should be 0 or 1 are.
        return np.round(self.positive_GN, 12), np.round(self.negative_GN, 12)

    def _allowed(self) -> npt.NDArray[np.bool_]:
        """Return which pairs of gaps an interval of an allowed width and place has its ends in."""
        width = self.high - self.low
        # The upper end is near the upper end of the positive kind's range, the lower end near
        # one range below the upper one.
        upper_from = np.maximum(self.below_GN, self.high - SLACK)
        upper_to = np.minimum(self.above_GN, self.high + SLACK)
        narrowest = upper_from[None] - self.above_GN[:, None]
        widest = upper_to[None] - self.below_GN[:, None]
        gap = np.arange(len(self.below_GN))
        return np.asarray(
            (gap[:, None, None] < gap[None, :, None])
            & ((upper_from < self.above_GN) & (upper_from <= upper_to))[None]
            & (self.below_GN < self.above_GN)[:, None]
            & (self.below_GN < self.above_GN)[None]
            & (narrowest <= width + SLACK)
            & (widest > width - SLACK)
        )


def _cumulated(which_VN: npt.NDArray[np.bool_]) -> Array:
    start = np.zeros((1, which_VN.shape[1]))
    return np.concatenate((start, np.cumsum(which_VN, axis=0, dtype=np.float64)))


def _largest(found_XN: Array) -> Array:
    """Return the largest value of each column, NaN left out; 0 if all are NaN."""
    return np.asarray(np.where(np.isnan(found_XN), 0.0, found_XN).max(axis=0))
