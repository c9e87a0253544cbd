"""KLoM: how much the distributions of margins of unlearned and retrained models differ.

Shape suffixes: U unlearned models, R retrained models, N examples, B bins.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from mixunlearn.evidence.logit_margins import LIMIT, LogitMargins, require_models

FEWEST = 64  # models of each kind: with fewer, 20 bins are mostly empty and noise looks like leak
BINS = 20  # as in the authors' code, between the smallest and the largest margin of an example
EMPTY = 1e-5  # share of retrained models in an empty bin, as in the authors' code
PERCENTILE = 95.0
SIMULATED = 400  # examples


@dataclass(frozen=True, kw_only=True)
class Klom:
    """KL divergences in nats, at least 0; lower is better, but chance alone is far from 0.

    Args:
        mean, p95: mean and 95th percentile over examples.
        floor_mean, floor_p95: the same for two halves of the retrained models, which differ by
            chance only. Each half has half the models, so there is more chance in it than in
            `mean`, unless there are twice as many retrained as unlearned models.
        chance_mean, chance_p95: the same for equal normal distributions with as many models of
            each kind, simulated.
    """

    mean: float
    p95: float
    floor_mean: float
    floor_p95: float
    chance_mean: float
    chance_p95: float


def klom(unlearned_UN: LogitMargins, retrained_RN: LogitMargins) -> Klom:
    """Return KLoM with its null floor, and what chance alone gives.

    For each example, margins are counted in 20 bins of equal width between the smallest and the
    largest of them; KLoM is the KL divergence of the counts, unlearned from retrained. The largest
    value, with all unlearned models in a bin without retrained ones, is log 10⁵ ≈ 11.5 nats.

    Source: Georgiev et al., ICLR 2025, arXiv 2410.23232, section E.1.

    Raises:
        ValueError: fewer than 64 models of a kind, no example, or a margin that is not finite.
    """
    for kind, part in (("unlearned", unlearned_UN), ("retrained", retrained_RN)):
        if len(part) < FEWEST:
            raise ValueError(f"KLoM needs {FEWEST} {kind} models or more, not {len(part)}")
    require_models(unlearned_UN, retrained_RN, FEWEST)
    found = _mean_and_p95(unlearned_UN, retrained_RN)
    floor = _mean_and_p95(retrained_RN[::2], retrained_RN[1::2])
    rng = np.random.default_rng(0)
    equal = [rng.normal(size=(len(each), SIMULATED)) for each in (unlearned_UN, retrained_RN)]
    chance = _mean_and_p95(equal[0], equal[1])
    return Klom(
        mean=found[0],
        p95=found[1],
        floor_mean=floor[0],
        floor_p95=floor[1],
        chance_mean=chance[0],
        chance_p95=chance[1],
    )


def binned_divergence(
    unlearned_UN: LogitMargins, retrained_RN: LogitMargins
) -> npt.NDArray[np.float64]:
    """Return for each example the KL divergence of the binned margins, in nats, shape (N,)."""
    clipped = [np.clip(part, -LIMIT, LIMIT) for part in (unlearned_UN, retrained_RN)]
    both = np.concatenate(clipped)
    low_N, width_N = both.min(axis=0), np.ptp(both, axis=0)
    shares = [_shares(part, low_N, np.where(width_N > 0, width_N, 1.0)) for part in clipped]
    # Only bins with unlearned models count; SciPy normalises the shares again.
    filled_BN = np.where(shares[0] > 0, np.maximum(shares[1], EMPTY), shares[1])
    return np.asarray(stats.entropy(shares[0], filled_BN, axis=0))


def _mean_and_p95(unlearned_UN: LogitMargins, retrained_RN: LogitMargins) -> tuple[float, float]:
    found_N = binned_divergence(unlearned_UN, retrained_RN)
    return float(found_N.mean()), float(np.percentile(found_N, PERCENTILE))


def _shares(
    margins_MN: LogitMargins, low_N: npt.NDArray[np.float64], width_N: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the share of models in each bin, (B, N); the last bin contains its upper end."""
    bin_MN = np.minimum((margins_MN - low_N) / width_N * BINS, BINS - 1).astype(np.int64)
    return np.asarray((bin_MN[None] == np.arange(BINS)[:, None, None]).mean(axis=1))
