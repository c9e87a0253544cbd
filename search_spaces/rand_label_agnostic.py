"""What may vary in random labels without labels (arXiv 2502.10288)."""

from collections.abc import Sequence

from search_spaces.random_label import WEIGHT
from search_spaces.shared import NEW_LABELS, SHARPEN_T, STEPS, learning_rate
from search_spaces.space import Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        lr=learning_rate(),
        sharpen_T=SHARPEN_T,
        forget_weight=WEIGHT,
        new_labels=NEW_LABELS,
        **STEPS,
    )
