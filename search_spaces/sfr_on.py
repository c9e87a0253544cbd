"""What may vary in SFR-on (Huang et al., NeurIPS 2024, arXiv 2409.19732)."""

from collections.abc import Sequence
from dataclasses import replace

from search_spaces.shared import BATCH, OPTIMIZER, WEIGHT_DECAY
from search_spaces.space import Float, Int, Published, Space

CODE = "authors' code of arXiv 2409.19732, a tenth of CIFAR-10"


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        Published(values={"batch": 128}, source=f"{CODE}: batch 128"),
        # For SGD, so the range of Adam's rates does not apply.
        lr=Float(
            low=1e-4,
            high=0.1,
            log=True,
            default=0.01,
            source=f"{CODE} (0.01); range of ours",
            unit="1/step",
        ),
        alpha=Float(
            low=0.1,
            high=500,
            log=True,
            default=25,
            source=f"{CODE} (25), TinyImageNet 500; range of ours",
        ),
        lam=Float(low=0, high=2, default=0.5, source=f"{CODE} (0.5); range of ours"),
        gamma=Float(low=0.1, high=100, log=True, default=1, source=f"{CODE} (1); range of ours"),
        forget_every=Int(
            low=1,
            high=20,
            log=True,
            default=5,
            source=f"{CODE} (5), TinyImageNet 1; range of ours",
            unit="steps",
        ),
        max_norm=Float(low=0.1, high=100, log=True, default=7, source=f"{CODE} (7)", fixed=True),
        decay_epochs=Int(
            low=1,
            high=40,
            default=10,
            source=f"{CODE}: all steps of the run",
            unit="epochs",
            fixed=True,
        ),
        batch=BATCH,
        optimizer=replace(OPTIMIZER, default="sgd", source=f"{CODE} (sgd, momentum 0.9)"),
        weight_decay=replace(WEIGHT_DECAY, default=5e-4, source=f"{CODE} (5e-4)"),
    )
