"""What may vary in prune, reinitialise, match, quantise (arXiv 2410.01276)."""

from collections.abc import Sequence

from search_spaces.contest import ENTRY, rate, sgd
from search_spaces.space import Float, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    share = Float(
        low=0.1, high=1, default=0.99, limits=(0, 1), source=f"{ENTRY} (0.99); range of ours"
    )
    return Space(lr=rate(5e-4), share=share, **sgd())
