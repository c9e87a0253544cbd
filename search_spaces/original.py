"""The search space of the unchanged original: nothing may vary."""

from collections.abc import Sequence

from search_spaces.space import Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space, which is empty; it does not depend on the model's stages."""
    return Space()
