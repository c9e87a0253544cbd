"""What may vary in just-in-time unlearning (Foster et al., arXiv 2402.01401)."""

from collections.abc import Sequence

from search_spaces.contest import sgd
from search_spaces.space import Float, Int, Space

CODE = "authors' code of arXiv 2402.01401"


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        lr=Float(
            low=1e-6,
            high=0.1,
            log=True,
            default=8e-5,
            source=f"{CODE} (3e-4 for normalised images), of a sum over 128 images; range of ours",
            unit="1/step",
        ),
        sigma=Float(
            low=0.002,
            high=0.5,
            log=True,
            default=0.13,
            source=f"{CODE} (0.5 for classes, 0.01 for single images, normalised); range of ours",
        ),
        neighbours=Int(
            low=1, high=100, default=25, source=f"{CODE} (25)", unit="images", fixed=True
        ),
        **sgd(batch=128, weight_decay=0, source=CODE),
    )
