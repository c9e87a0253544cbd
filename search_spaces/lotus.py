"""What may vary in LoTUS (Spartalis et al., CVPR 2025, arXiv 2503.18314)."""

from collections.abc import Sequence

from search_spaces.shared import STEPS, learning_rate
from search_spaces.space import Float, Published, Space

CODE = "authors' code of arXiv 2503.18314"


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    published = Published(
        values={"alpha": 8, "weight_decay": 5e-4, "batch": 128},
        source=f"{CODE}, CIFAR-10 with a ResNet-18",
    )
    return Space(
        published,
        lr=learning_rate(1e-4, f"{CODE} (1e-4, a vision transformer's 1e-6); range of ours"),
        alpha=Float(
            low=0.5,
            high=64,
            log=True,
            default=2,
            source=f"{CODE} (2; CIFAR-10 8, whole classes 32); range of ours",
        ),
        retain_share=Float(
            low=0.05,
            high=1,
            log=True,
            default=0.3,
            source=f"{CODE} (0.3)",
            limits=(0, 1),
            fixed=True,
        ),
        **STEPS,
    )
