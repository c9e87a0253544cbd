"""What may vary in NegGrad+ (Kurmanji et al., NeurIPS 2023, arXiv 2302.09880)."""

from collections.abc import Sequence

from search_spaces.shared import BATCH, OURS, learning_rate
from search_spaces.space import Float, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    beta = Float(low=1e-3, high=10, log=True, default=0.05, source=OURS)
    return Space(lr=learning_rate(), beta=beta, batch=BATCH)
