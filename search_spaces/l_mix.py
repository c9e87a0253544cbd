"""What may vary in L-Mix, the control without a generator (arXiv 2502.10288)."""

from collections.abc import Sequence

from search_spaces.shared import PAIRING, SHARPEN_T, STEPS, alpha, learning_rate
from search_spaces.space import Float, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        lr=learning_rate(),
        tau=Float(
            low=0.5,
            high=50,
            log=True,
            default=5,
            source="LAF takes 5 or 20, arXiv 2404.00506; range of ours",
        ),
        alpha=alpha(),
        sharpen_T=SHARPEN_T,
        pairing=PAIRING,
        **STEPS,
    )
