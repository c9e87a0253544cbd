"""Parameters that several methods share."""

from collections.abc import Mapping

from search_spaces.space import Choice, Float, Value

OURS = "first guess and range of ours; the paper does not publish them"


def learning_rate(default: float = 1e-4, source: str = OURS) -> Float:
    """Return the range of the unlearner's learning rate."""
    return Float(low=1e-6, high=3e-3, log=True, default=default, source=source, unit="1/step")


BATCH = Choice(
    options=(8, 16, 32, 64, 128, 256),
    default=32,
    source="LAF, arXiv 2404.00506 (32)",
    unit="pairs",
    fixed=True,
)


def alpha(when: Mapping[str, tuple[Value, ...]] | None = None) -> Float:
    """Return the range of α in `λ ~ Beta(α, α)`; `when` is the condition that α exists."""
    source = "authors' code of arXiv 2502.10288 (0.75)"
    return Float(low=0.1, high=4, log=True, default=0.75, source=source, when=when or {})


SHARPEN_T = Float(
    low=0.1,
    high=1,
    default=0.3,
    source="authors' code of arXiv 2502.10288 (0.3)",
    # Labels are one-hot already; only predictions can be sharpened.
    when={"labels": ("agnostic",)},
)

PAIRING = Choice(
    options=("any", "different_class"),
    default="any",
    source="arXiv 2502.10288 (any); different_class is ours",
)
