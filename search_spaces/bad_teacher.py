"""What may vary in bad teaching (Chundawat et al., AAAI 2023, arXiv 2205.08096)."""

from collections.abc import Sequence

from search_spaces.shared import STEPS, forget_weight, learning_rate
from search_spaces.space import Float, Space

CODE = "authors' code of arXiv 2205.08096"


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        lr=learning_rate(source=f"{CODE} (1e-4); range of ours"),
        temperature=Float(
            low=0.5,
            high=10,
            log=True,
            default=1,
            source=f"{CODE} (1); range of ours",
        ),
        forget_weight=forget_weight(1 / 0.3, f"{CODE} (D_f and 30 % of D_r)"),
        **STEPS,
    )
