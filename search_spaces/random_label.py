"""What may vary in random labels (arXiv 1911.04933, 2010.10981)."""

from collections.abc import Sequence

from search_spaces.shared import BATCH, learning_rate
from search_spaces.space import Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(lr=learning_rate(), batch=BATCH)
