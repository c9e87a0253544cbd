"""What may vary in DSMixup (openreview.net/forum?id=zYtW5Nz37V)."""

from collections.abc import Sequence

from search_spaces import sisa
from search_spaces.space import Float, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space: that of SISA, plus how strongly images are mixed."""
    source = "mixup, arXiv 1710.09412 (1 for CIFAR-10); range of ours"
    alpha = Float(low=0.1, high=4, log=True, default=1, source=source)
    return Space(**sisa.space(stages, default_stage), alpha=alpha)
