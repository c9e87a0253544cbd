"""What may vary in masked small gradients (arXiv 2410.01276)."""

from collections.abc import Sequence
from dataclasses import replace

from search_spaces.shared import BATCH, WEIGHT_DECAY
from search_spaces.space import Float, Int, Space

ENTRY = "the challenge's entry, in arXiv 2410.01276"


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        # For SGD, so the range of Adam's rates does not apply.
        lr=Float(
            low=1e-5,
            high=0.1,
            log=True,
            default=1e-3,
            source=f"{ENTRY} (1e-3); range of arXiv 2410.01276",
            unit="1/step",
        ),
        share=Float(
            low=0.01,
            high=0.9,
            default=0.3,
            limits=(0, 0.99),
            source=f"{ENTRY} (0.3); range of ours",
        ),
        schedule_epochs=Int(
            low=1, high=40, default=5, source=f"{ENTRY}: all epochs", unit="epochs", fixed=True
        ),
        batch=BATCH,
        weight_decay=replace(WEIGHT_DECAY, default=5e-4, source=f"{ENTRY} (5e-4)"),
    )
