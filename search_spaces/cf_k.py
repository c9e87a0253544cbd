"""What may vary in finetuning the last k layers (Goel et al., arXiv 2201.06640)."""

from collections.abc import Sequence

from search_spaces.shared import STEPS, learning_rate
from search_spaces.space import Int, Space

LAST_LAYERS = Int(
    low=1,
    high=10,
    default=3,
    log=True,
    source="ours: from the last layer alone to half of a ResNet-18",
    unit="layers",
)


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(lr=learning_rate(), k=LAST_LAYERS, **STEPS)
