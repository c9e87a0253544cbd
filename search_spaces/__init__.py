"""Search spaces by method; a new one is a file here and a line in `SPACES`."""

from collections.abc import Callable, Mapping, Sequence

from mixunlearn.plugins import extended
from search_spaces import finetune, l_mix, mixunlearn, neggrad, retrain
from search_spaces.space import Choice, Float, Int, Space

SPACES: Mapping[str, Callable[[Sequence[str], str], Space]] = extended(
    {
        "finetune": finetune.space,
        "l_mix": l_mix.space,
        "mixunlearn": mixunlearn.space,
        "neggrad": neggrad.space,
        "retrain": retrain.space,
    },
    "mixunlearn.search_spaces",
)

__all__ = ["SPACES", "Choice", "Float", "Int", "Space"]
