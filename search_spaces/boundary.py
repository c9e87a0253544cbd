"""What may vary in boundary unlearning (Chen et al., CVPR 2023, arXiv 2303.11570)."""

from collections.abc import Sequence

from search_spaces.shared import STEPS, learning_rate
from search_spaces.space import Choice, Float, Published, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    sgd = Published(values={"optimizer": "sgd"}, source="authors' code of arXiv 2303.11570")
    return Space(
        sgd,
        lr=learning_rate(1e-5, "authors' code of arXiv 2303.11570 (1e-5, of SGD); range of ours"),
        mode=Choice(
            options=("shrink", "expand"),
            default="shrink",
            source="arXiv 2303.11570, which reports both",
        ),
        epsilon=Float(
            low=0.01,
            high=0.5,
            log=True,
            default=0.1,
            source="authors' code of arXiv 2303.11570 (0.1); range of ours",
            unit="pixel range",
            when={"mode": ("shrink",)},
        ),
        **STEPS,
    )
