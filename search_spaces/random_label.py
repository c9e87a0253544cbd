"""What may vary in random labels (arXiv 1911.04933, 2010.10981)."""

from collections.abc import Sequence

from search_spaces.shared import (
    NEW_LABELS,
    SALUN_CODE,
    SALUN_SGD,
    STEPS,
    forget_weight,
    learning_rate,
)
from search_spaces.space import Published, Space

WEIGHT = forget_weight(1, "authors' code of arXiv 2310.12508 (one pass over D_f and one over D_r)")
RELABELLING = Published(
    values={**SALUN_SGD, "lr": 0.1, "new_labels": "redrawn"}, source=f"{SALUN_CODE}, rate 0.1"
)


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        RELABELLING, lr=learning_rate(), forget_weight=WEIGHT, new_labels=NEW_LABELS, **STEPS
    )
