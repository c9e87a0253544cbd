"""Divergence between predictions."""

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr


def js_divergence(p_NK: npt.NDArray[np.float32], q_NK: npt.NDArray[np.float32]) -> float:
    """Return the Jensen-Shannon divergence in nats, in [0, ln 2], averaged over N rows."""
    p, q = p_NK.astype(np.float64), q_NK.astype(np.float64)
    middle = (p + q) / 2
    # `rel_entr` is 0 for a probability of 0, where `p * log(p / q)` would be NaN.
    by_row = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=1) / 2
    return float(by_row.mean())
