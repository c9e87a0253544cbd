"""What may vary in finetuning the last k layers (Goel et al., arXiv 2201.06640)."""

from collections.abc import Sequence

from search_spaces.shared import STEPS, learning_rate
from search_spaces.space import Int, Published, Space

LAST_LAYERS = Int(
    low=1,
    high=10,
    default=3,
    log=True,
    source=(
        "ours: from the last layer alone to half of a ResNet-18; authors' code of arXiv 2201.06640 "
        "(1, 3, 5 and 7 of a ResNet-20)"
    ),
    unit="layers",
)
PUBLISHED = Published(
    values={"optimizer": "sgd", "lr": 0.05, "weight_decay": 5e-5, "batch": 64},
    source=(
        "authors' code of arXiv 2201.06640; its rate goes from 0.1 to 0.005 along cosines that "
        "begin anew, here their mean"
    ),
)


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(PUBLISHED, lr=learning_rate(), k=LAST_LAYERS, **STEPS)
