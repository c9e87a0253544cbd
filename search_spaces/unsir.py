"""What may vary in UNSIR (Tarun et al., TNNLS 2023, arXiv 2111.08947)."""

from collections.abc import Sequence

from search_spaces.noise import CODE, PUBLISHED, noise
from search_spaces.shared import STEPS
from search_spaces.space import Float, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    share = Float(
        low=0.05,
        high=1,
        log=True,
        default=0.2,
        limits=(0, 1),
        source=f"{CODE} (1,000 of 5,000 images a class); range of ours",
    )
    return Space(PUBLISHED, **noise(), share=share, **STEPS)
