"""What may vary in retraining from scratch."""

from collections.abc import Sequence

from search_spaces.shared import STEPS
from search_spaces.space import Float, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    lr = Float(low=1e-5, high=1e-2, log=True, default=1e-3, source="LAF takes 1e-4 for 20 epochs")
    return Space(lr=lr, **STEPS)
