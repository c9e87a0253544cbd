"""What may vary in random labels without labels (arXiv 2502.10288)."""

from collections.abc import Sequence

from search_spaces.shared import BATCH, SHARPEN_T, learning_rate
from search_spaces.space import Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(lr=learning_rate(), sharpen_T=SHARPEN_T, batch=BATCH)
