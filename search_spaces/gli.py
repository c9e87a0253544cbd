"""What may vary in zero-shot unlearning by noise (Chundawat et al., arXiv 2201.05629)."""

from collections.abc import Sequence

from search_spaces.noise import noise
from search_spaces.shared import STEPS
from search_spaces.space import Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(**noise(), **STEPS)
