"""What may vary in the erasing space concept (Lee et al., CVPR 2025, arXiv 2504.02199)."""

from collections.abc import Sequence

from search_spaces.space import Float, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    share = Float(
        low=0.005,
        high=0.5,
        log=True,
        default=0.03,
        limits=(0, 1),
        source="authors' code of arXiv 2504.02199 (3 %); range of ours",
    )
    return Space(share=share)
