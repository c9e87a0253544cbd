"""What may vary in learning to unlearn (Cha et al., AAAI 2024, arXiv 2301.11578)."""

from collections.abc import Sequence
from dataclasses import replace

from search_spaces.contest import rate, sgd
from search_spaces.shared import BATCH
from search_spaces.space import Float, Int, Published, Space

CODE = "authors' code of arXiv 2301.11578"


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        Published(values={"attack_steps": 100}, source=CODE),
        lr=replace(rate(1e-3), source=f"{CODE} (1e-3); range of ours"),
        epsilon=Float(low=0.1, high=10, log=True, default=4, source=f"{CODE} (4); range of ours"),
        hold=Float(low=0.01, high=100, log=True, default=1, source=f"{CODE} (1); range of ours"),
        adversaries=Int(
            low=1, high=200, default=20, source=f"{CODE} (20)", unit="images", fixed=True
        ),
        attack_steps=Int(
            low=1, high=200, default=10, source=f"ours (10); {CODE} (100)", unit="steps", fixed=True
        ),
        forget_batch=replace(BATCH, source=f"{CODE} (32)", unit="images"),
        **sgd(batch=256, weight_decay=1e-4, source=CODE),
    )
