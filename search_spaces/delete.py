"""What may vary in DELETE (Zhou et al., CVPR 2025, arXiv 2503.23751)."""

from collections.abc import Sequence

from search_spaces.shared import STEPS, learning_rate
from search_spaces.space import Choice, Published, Space

CODE = "authors' code of arXiv 2503.23751, CIFAR-10 with a ResNet-18"


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    published = Published(
        values={"optimizer": "sgd", "lr": 1e-3, "batch": 128},
        source=f"{CODE}: SGD, rate 1e-3, batch 128",
    )
    return Space(
        published,
        lr=learning_rate(),
        norms=Choice(
            options=("batch", "fixed"),
            default="batch",
            source=f"{CODE} (batch; fixed is its option)",
            fixed=True,
        ),
        **STEPS,
    )
