"""What may vary in LAF with repair, LAF+R (Shen et al., ICLR 2024, arXiv 2404.00506)."""

from collections.abc import Sequence

from search_spaces import laf
from search_spaces.shared import OURS
from search_spaces.space import Float, Space


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return LAF's search space plus the learning rate of the repair."""
    lr_head = Float(low=1e-6, high=1e-2, log=True, default=1e-4, source=OURS, unit="1/step")
    return Space(**laf.space(stages, default_stage), lr_head=lr_head)
