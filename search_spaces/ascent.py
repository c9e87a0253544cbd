"""What may vary in gradient ascent on the forget set (arXiv 1911.04933, 2109.13398)."""

from collections.abc import Sequence

from search_spaces.shared import SALUN_CODE, SALUN_SGD, STEPS, learning_rate
from search_spaces.space import Published, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    source = "first guess and range of ours: the authors' rates are for SGD"
    published = Published(values={**SALUN_SGD, "lr": 1e-4}, source=f"{SALUN_CODE}, rate 1e-4")
    return Space(published, lr=learning_rate(1e-5, source), **STEPS)
