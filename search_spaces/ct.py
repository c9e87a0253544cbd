"""What may vary in convolution transpose (arXiv 2410.01276)."""

from collections.abc import Sequence

from search_spaces.shared import BATCH, learning_rate
from search_spaces.space import Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    source = "the challenge's entry, in arXiv 2410.01276 (1e-3, of SGD); range of ours"
    return Space(lr=learning_rate(1e-3, source), batch=BATCH)
