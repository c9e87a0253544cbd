"""What may vary in SCRUB, and SCRUB+R (Kurmanji et al., NeurIPS 2023, arXiv 2302.09880)."""

from collections.abc import Sequence
from dataclasses import replace

from search_spaces.shared import BATCH, STEPS, learning_rate
from search_spaces.space import Choice, Float, Int, Published, Space

SOURCE = "authors' code of arXiv 2302.09880, small scale"

LARGE = "authors' code of arXiv 2302.09880, large scale"
PUBLISHED = Published(
    values={
        "optimizer": "sgd",
        "lr": 5e-4,
        "alpha": 1e-3,
        "gamma": 0.99,
        "temperature": 4,
        "msteps": 2,
        "weight_decay": 5e-4,
        "forget_batch": 512,
        "batch": 128,
        "lr_decay": 0.1,
    },
    source=LARGE,
)


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    return Space(
        PUBLISHED,
        lr=learning_rate(5e-4, f"{SOURCE} (5e-4); range of ours"),
        alpha=Float(
            low=1e-3, high=10, log=True, default=0.5, source=f"{SOURCE} (0.5), large scale (1e-3)"
        ),
        gamma=Float(
            low=0.01, high=100, log=True, default=1, source=f"{SOURCE} (1), with rewind (99)"
        ),
        temperature=Float(
            low=0.5, high=10, log=True, default=2, source=f"{SOURCE} (2), large scale (4)"
        ),
        msteps=Int(low=1, high=10, default=3, source=f"{SOURCE} (3); range of ours", unit="epochs"),
        rewind=Choice(
            options=(True, False), default=False, source="arXiv 2302.09880: SCRUB+R, SCRUB"
        ),
        forget_batch=replace(BATCH, options=(*BATCH.options, 512), source=f"{LARGE} (512); ours"),
        lr_decay=Float(
            low=0.01,
            high=1,
            default=1,
            limits=(0.01, 1),
            source=f"ours (1); {LARGE} (0.1)",
            fixed=True,
        ),
        **STEPS,
    )
