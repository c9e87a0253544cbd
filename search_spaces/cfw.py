"""What may vary in confuse, finetune, weaken (arXiv 2410.01276)."""

from collections.abc import Sequence

from search_spaces.contest import ENTRY, course, rate, sgd
from search_spaces.space import Float, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        lr=rate(7e-4),
        confuse=Float(
            low=0.01, high=2, log=True, default=0.6, source=f"{ENTRY} (0.6); range of ours"
        ),
        weaken=Float(
            low=5e-4, high=0.1, log=True, default=0.005, source=f"{ENTRY} (0.005); range of ours"
        ),
        schedule_epochs=course(4),
        **sgd(),
    )
