"""What may vary in NegGrad+ (Kurmanji et al., NeurIPS 2023, arXiv 2302.09880)."""

from collections.abc import Sequence

from search_spaces.shared import STEPS, learning_rate
from search_spaces.space import Float, Space

SOURCE = (
    "first guess of ours, near (1−α)/α for the α = 0.95 of arXiv 2302.09880; its authors' code "
    "also has α = 0.9999, here 1e-4; range of ours"
)


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    beta = Float(low=1e-5, high=10, log=True, default=0.05, source=SOURCE)
    return Space(lr=learning_rate(), beta=beta, **STEPS)
