"""What may vary in MU-Mis (Cheng et al., ICLR 2026, arXiv 2402.15109)."""

from collections.abc import Sequence

from search_spaces.shared import STEPS, learning_rate
from search_spaces.space import Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(lr=learning_rate(), **STEPS)
