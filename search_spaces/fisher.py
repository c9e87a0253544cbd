"""What may vary in Fisher forgetting (Golatkar et al., CVPR 2020, arXiv 1911.04933)."""

from collections.abc import Sequence

from search_spaces.space import Choice, Float, Published, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    source = "authors' code: variance 1e-6/F, here (α/F)^½, the same at its bound 1/F = 1e3; ours"
    alpha = Float(low=1e-15, high=1e-5, log=True, default=1e-9, source=source)
    variant = Choice(
        options=("paper", "code"), default="paper", source="arXiv 1911.04933, its code", fixed=True
    )
    published = Published(values={"variant": "code", "alpha": 1e-6}, source="authors' code")
    return Space(published, alpha=alpha, variant=variant)
