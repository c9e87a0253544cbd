"""What may vary in amnesiac relabelling (Graves et al., AAAI 2021, arXiv 2010.10981)."""

from collections.abc import Sequence

from search_spaces.shared import STEPS, learning_rate
from search_spaces.space import Published, Space

CODE = "authors' code of arXiv 2010.10981"


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space; it does not depend on the model's stages."""
    published = Published(values={"batch": 64}, source=f"{CODE}: batch 64")
    return Space(published, lr=learning_rate(1e-3, f"{CODE} (1e-3); range of ours"), **STEPS)
