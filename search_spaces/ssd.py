"""What may vary in SSD (Foster et al., AAAI 2024, arXiv 2308.07707)."""

from collections.abc import Sequence

from search_spaces.space import Choice, Float, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    alpha = Float(
        low=0.1, high=100, log=True, default=10, source="arXiv 2308.07707 (10 for ResNet-18)"
    )
    dampening = Float(
        low=0.1, high=5, log=True, default=1, source="arXiv 2308.07707 (1), its λ; range likewise"
    )
    # With 1, an α from |D| / |D_f| on (10 for one class of ten) changes nothing.
    importance_batch = Choice(
        options=(1, 64),
        default=64,
        source="authors' code of arXiv 2308.07707 (64); its equation (1)",
        unit="images",
        fixed=True,
    )
    return Space(alpha=alpha, dampening=dampening, importance_batch=importance_batch)
