"""What may vary in sparse finetuning (Jia et al., NeurIPS 2023, arXiv 2304.04934)."""

from collections.abc import Sequence

from search_spaces.shared import SALUN_CODE, SALUN_SGD, STEPS, learning_rate
from search_spaces.space import Float, Int, Published, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    published = Published(values={**SALUN_SGD, "lr": 0.01}, source=f"{SALUN_CODE}, rate 0.01")
    return Space(
        published,
        lr=learning_rate(),
        gamma=Float(
            low=1e-6,
            high=1e-2,
            log=True,
            default=1e-4,
            source="first guess and range of ours: the authors' is for SGD",
        ),
        decay_epochs=Int(
            low=1,
            high=40,
            default=10,
            source="authors' code of arXiv 2304.04934: all epochs of the run, there 10",
            unit="epochs",
            fixed=True,
        ),
        **STEPS,
    )
