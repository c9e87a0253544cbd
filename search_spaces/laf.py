"""What may vary in label-agnostic forgetting, LAF (Shen et al., ICLR 2024, arXiv 2404.00506)."""

from collections.abc import Sequence

from search_spaces.shared import STEPS, learning_rate
from search_spaces.space import Choice, Float, Space

AUTHORS = "authors' settings for arXiv 2404.00506"


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        lr=learning_rate(source=f"{AUTHORS} (4e-5 … 1e-4); range of ours"),
        lr_ue=Float(
            low=1e-6,
            high=1e-3,
            log=True,
            default=5e-5,
            source=f"{AUTHORS} (1e-5, 5e-5); range of ours",
            unit="1/step",
        ),
        tau=Float(
            low=0.5, high=50, log=True, default=20, source=f"{AUTHORS} (5, 20); range of ours"
        ),
        latent=Choice(
            options=(8, 16), default=8, source=f"{AUTHORS} (8 for the CNN, 16 for ResNet-18)"
        ),
        norms=Choice(
            options=("batch", "fixed"),
            default="batch",
            source="ours (batch); authors' code of arXiv 2404.00506 (fixed)",
            fixed=True,
        ),
        passes=Choice(
            options=("retain", "shorter"),
            default="retain",
            source="ours (retain); authors' code of arXiv 2404.00506 (shorter)",
            fixed=True,
        ),
        **STEPS,
    )
