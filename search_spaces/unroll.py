"""What may vary in unrolling SGD (Thudi et al., EuroS&P 2022, arXiv 2109.13398)."""

from collections.abc import Sequence

from search_spaces.shared import BATCH, OURS
from search_spaces.space import Float, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        # For SGD, so the range of Adam's rates does not apply.
        lr=Float(low=1e-5, high=0.1, log=True, default=0.01, source=OURS, unit="1/step"),
        sigma=Float(
            low=0.1,
            high=1e3,
            log=True,
            default=1,
            source="arXiv 2109.13398 (1: all of the one epoch); range of ours",
            unit="epochs",
        ),
        batch=BATCH,
    )
