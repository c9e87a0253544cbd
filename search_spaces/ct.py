"""What may vary in convolution transpose (arXiv 2410.01276)."""

from collections.abc import Sequence

from search_spaces.shared import STEPS, learning_rate
from search_spaces.space import Published, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    source = "the challenge's entry, in arXiv 2410.01276 (1e-3, of SGD); range of ours"
    published = Published(
        values={"optimizer": "sgd", "lr": 1e-3, "weight_decay": 5e-4, "batch": 64},
        source="the challenge's entry, in arXiv 2410.01276",
    )
    return Space(published, lr=learning_rate(1e-3, source), **STEPS)
