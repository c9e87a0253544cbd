"""What may vary in finetuning on the retain set."""

from collections.abc import Sequence

from search_spaces.shared import SALUN_CODE, SALUN_SGD, STEPS, learning_rate
from search_spaces.space import Published, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    published = Published(values={**SALUN_SGD, "lr": 0.01}, source=f"{SALUN_CODE}, rate 0.01")
    return Space(published, lr=learning_rate(), **STEPS)
