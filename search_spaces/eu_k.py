"""What may vary in retraining the last k layers (Goel et al., arXiv 2201.06640)."""

from collections.abc import Sequence

from search_spaces.cf_k import LAST_LAYERS, PUBLISHED
from search_spaces.shared import STEPS, learning_rate
from search_spaces.space import Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    source = "what originals are trained with; range of ours"
    return Space(PUBLISHED, lr=learning_rate(1e-3, source), k=LAST_LAYERS, **STEPS)
