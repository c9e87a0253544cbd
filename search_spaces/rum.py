"""What may vary in RUM (Zhao et al., NeurIPS 2024, arXiv 2406.01257)."""

from collections.abc import Sequence

from search_spaces.shared import STEPS, learning_rate
from search_spaces.space import Choice, Int, Space

PAPER = "arXiv 2406.01257, best on CIFAR-10"
ABLE = ("original", "finetune", "l1_sparse", "neggrad", "random_label", "salun", "scrub")


def _method(default: str) -> Choice:
    """Return the choice of a part's method."""
    return Choice(options=ABLE, default=default, source=f"{PAPER} ({default}); options of ours")


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        lr=learning_rate(),
        by=Choice(
            options=("memorisation", "confidence"),
            default="memorisation",
            source="the task hard (memorisation); arXiv 2410.16516 (confidence)",
        ),
        low=_method("original"),
        middle=_method("finetune"),
        high=_method("salun"),
        schedule_epochs=Int(
            low=1,
            high=40,
            default=10,
            source="ours: all epochs of the run",
            unit="epochs",
            fixed=True,
        ),
        **STEPS,
    )
