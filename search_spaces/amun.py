"""What may vary in AMUN (Ebrahimpour-Boroojeny et al., ICML 2025, arXiv 2503.00917)."""

from collections.abc import Sequence

from search_spaces.shared import STEPS, learning_rate
from search_spaces.space import Choice, Float, Published, Space

CODE = "authors' code of arXiv 2503.00917"


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    published = Published(
        values={
            "optimizer": "sgd",
            "lr": 0.01,
            "weight_decay": 5e-4,
            "batch": 128,
            "lr_decay": 0.1,
        },
        source=f"{CODE}: SGD, rate 0.01, a tenth after each epoch",
    )
    return Space(
        published,
        lr=learning_rate(),
        with_forget=Choice(
            options=(True, False), default=True, source=f"arXiv 2503.00917; {CODE} has both"
        ),
        radius=Float(
            low=0.01,
            high=1,
            log=True,
            default=0.04,
            source=f"{CODE} (0.04)",
            unit="pixel range",
            fixed=True,
        ),
        lr_decay=Float(
            low=0.01,
            high=1,
            default=1,
            limits=(0.01, 1),
            source=f"ours (1); {CODE} (0.1)",
            fixed=True,
        ),
        **STEPS,
    )
