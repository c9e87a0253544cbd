"""What may vary in forget, contrast, strengthen (arXiv 2410.01276)."""

from collections.abc import Sequence
from dataclasses import replace

from search_spaces.contest import ENTRY, course, rate, sgd
from search_spaces.shared import BATCH
from search_spaces.space import Float, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        lr=rate(4e-3, f"{ENTRY}, 1e-3 for 64 images and 256 images in a step"),
        lr_uniform=rate(5e-3),
        lr_contrast=rate(3e-4),
        temperature=Float(
            low=0.5, high=10, log=True, default=1.15, source=f"{ENTRY} (1.15); range of ours"
        ),
        forget_batch=replace(BATCH, default=64, source=f"{ENTRY} (64)", unit="images"),
        schedule_epochs=course(8),
        **sgd(batch=256, weight_decay=0.01),
    )
