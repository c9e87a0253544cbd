"""What may vary in NegGrad+ (Kurmanji et al., NeurIPS 2023, arXiv 2302.09880)."""

from collections.abc import Sequence

from search_spaces.shared import STEPS, learning_rate
from search_spaces.space import Float, Published, Space

SOURCE = (
    "first guess of ours, near (1−α)/α for the α = 0.95 of arXiv 2302.09880; its authors' code "
    "also has α = 0.9999, here 1e-4; range of ours"
)
PUBLISHED = Published(
    values={"optimizer": "sgd", "lr": 1e-3, "beta": 1e-4},
    source=(
        "authors' code of arXiv 2302.09880, CIFAR-10: α = 0.9999, batches of 32 of D_r, rate 0.01 "
        "without momentum, here 1e-3 with momentum 0.9: steps as long, once it has built up"
    ),
)


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    beta = Float(low=1e-5, high=10, log=True, default=0.05, source=SOURCE)
    return Space(PUBLISHED, lr=learning_rate(), beta=beta, **STEPS)
