"""A sum of means of independent samples: its standard error, its interval, its tests.

The standard error and its degrees of freedom are those of Welch (1947, Biometrika 34, 28-35); of a
single sample they are Student's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

LEVEL = 0.05  # error probability of each one-sided test
ROUNDING = 1e-9  # smaller differences are no effect: metrics have values up to 100

Sample = Sequence[float] | npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """An estimate with its uncertainty.

    Args:
        value: the estimate.
        error: its standard error; 0 if no sample varies: then the value is exact.
        freedom: degrees of freedom of the error; infinite for an exact value.
    """

    value: float
    error: float
    freedom: float

    @property
    def interval(self) -> tuple[float, float]:
        """Return its 90 % interval."""
        half = float(special.stdtrit(self.freedom, 1 - LEVEL)) * self.error if self.error else 0.0
        return self.value - half, self.value + half

    def above(self, bound: float = 0.0) -> float:
        """Return the probability of so large a value if the true one is at `bound`."""
        return self._tail(self.value - bound)

    def below(self, bound: float = 0.0) -> float:
        """Return the probability of so small a value if the true one is at `bound`."""
        return self._tail(bound - self.value)

    def beyond(self, bound: float) -> float:
        """Return the probability of a value so far from 0 if the true one is at ±`bound`.

        With `bound` 0, this is the two-sided test; else that of a minimum effect (Hodges and
        Lehmann 1954, J. R. Stat. Soc. B 16, 261-268).

        Args:
            bound: at least 0.
        """
        if not self.error:
            return self._tail(abs(self.value) - bound)
        return self._tail(abs(self.value) - bound) + self._tail(abs(self.value) + bound)

    def _tail(self, excess: float) -> float:
        if not self.error:
            return float(excess <= ROUNDING)
        return float(special.stdtr(self.freedom, -excess / self.error))


def estimate(*samples: Sample) -> Estimate:
    """Return the sum of the means of samples; for a difference, negate one of them.

    Args:
        samples: independent of each other, each with two values or more.
    """
    arrays = [np.asarray(sample, float) for sample in samples]
    value = float(sum(array.mean() for array in arrays))
    spreads = [variance(array) for array in arrays]
    if not any(spreads):
        return Estimate(value=value, error=0.0, freedom=np.inf)
    error, freedom = welch(spreads, [len(array) for array in arrays])
    return Estimate(value=value, error=float(error), freedom=float(freedom))


def variance(values: Sample) -> float:
    """Return the variance of a sample (n − 1); exactly 0 if its values differ by rounding only."""
    array = np.asarray(values, float)
    alike = np.ptp(array) <= ROUNDING * max(1.0, float(np.abs(array).max()))
    return 0.0 if alike else float(array.var(ddof=1))


def welch(variances: Sequence[float], counts: Sequence[Any]) -> tuple[Any, Any]:
    """Return the standard error of a sum of means, and its degrees of freedom.

    Args:
        variances: of single values of each sample; one of them is not 0.
        counts: number of values of each sample: numbers, or arrays of one shape.
    """
    parts = [spread / count for spread, count in zip(variances, counts, strict=True)]
    total = sum(parts)
    squares = sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
    return np.sqrt(total), total**2 / squares
