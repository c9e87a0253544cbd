"""What may vary in repeated noise injection (arXiv 2410.01276)."""

from collections.abc import Sequence

from search_spaces.contest import ENTRY, course, rate, sgd
from search_spaces.space import Float, Int, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        lr=rate(2e-4),
        lr_last=rate(1e-3),
        tensors=Int(
            low=1, high=40, default=9, source=f"{ENTRY} (9 of a ResNet-18)", unit="tensors"
        ),
        noise=Float(
            low=0.001, high=1, log=True, default=0.04, source=f"{ENTRY} (0.04); range of ours"
        ),
        noise_share=Float(
            low=0, high=1, default=0.7, limits=(0, 1), source=f"{ENTRY} (0.7)", fixed=True
        ),
        fine_epochs=Int(
            low=0,
            high=40,
            default=4,
            limits=(0, 1000),
            source=f"{ENTRY} (4 of 9)",
            unit="epochs",
            fixed=True,
        ),
        schedule_epochs=course(9),
        **sgd(),
    )
