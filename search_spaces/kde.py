"""What may vary in knowledge distillation with entropy (arXiv 2410.01276)."""

from collections.abc import Sequence

from search_spaces.contest import ENTRY, course, rate, sgd
from search_spaces.space import Float, Int, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        lr=rate(1e-3),
        lr_warmup=rate(9e-4),
        temperature=Float(
            low=0.5, high=10, log=True, default=5, source=f"{ENTRY} (5); range of ours"
        ),
        warmup_epochs=Int(
            low=0,
            high=10,
            default=3,
            limits=(0, 1000),
            source=f"{ENTRY} (3 of 6)",
            unit="epochs",
            fixed=True,
        ),
        schedule_epochs=course(6),
        **sgd(),
    )
