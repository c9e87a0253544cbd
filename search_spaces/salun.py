"""What may vary in saliency unlearning (Fan et al., ICLR 2024, arXiv 2310.12508)."""

from collections.abc import Sequence
from dataclasses import replace

from search_spaces.random_label import RELABELLING, WEIGHT
from search_spaces.shared import NEW_LABELS, SALUN_CODE, STEPS, learning_rate
from search_spaces.space import Float, Space

# The first version of their README has 0.1.
PUBLISHED = replace(
    RELABELLING,
    values={**RELABELLING.values, "lr": 0.013},
    source=f"{SALUN_CODE}, rate 0.013 for 10 % of CIFAR-10 on a ResNet-18",
)


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        PUBLISHED,
        lr=learning_rate(),
        fraction=Float(
            low=0.05,
            high=1,
            default=0.5,
            source="arXiv 2310.12508 (0.5); authors' code makes 0.1 to 0.5; range of ours",
            limits=(0, 1),
        ),
        forget_weight=WEIGHT,
        new_labels=NEW_LABELS,
        **STEPS,
    )
