"""What may vary in SISA (Bourtoule et al., IEEE S&P 2021, arXiv 1912.03837)."""

from collections.abc import Sequence

from search_spaces import retrain
from search_spaces.space import Int, Space

# A single shard would be one model for all images, which the method refuses.
SHARDS = Int(
    low=2,
    high=10,
    default=5,
    limits=(2, 1000),
    source="first guess and range of ours",
    unit="shards",
)


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space: that of retraining, plus the number of shards."""
    return Space(**retrain.space(stages, default_stage), shards=SHARDS)
