"""What may vary in influence unlearning (Jia et al., NeurIPS 2023, arXiv 2304.04934)."""

from collections.abc import Sequence

from search_spaces.space import Float, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    source = "1 is the influence function's own step, arXiv 1703.04730; range of ours"
    alpha = Float(low=0.1, high=100, log=True, default=1, source=source)
    return Space(alpha=alpha)
