"""Parameters that several methods share."""

from collections.abc import Mapping

from search_spaces.space import AnyParameter, Choice, Float, Value

OURS = "first guess and range of ours; the paper does not publish them"


def learning_rate(default: float = 1e-4, source: str = OURS) -> Float:
    """Return the range of the unlearner's learning rate."""
    return Float(low=1e-6, high=3e-3, log=True, default=default, source=source, unit="1/step")


def forget_weight(default: float, source: str) -> Float:
    """Return the range of how much an image of D_f counts beside one of D_r."""
    return Float(low=0.1, high=100, log=True, default=default, source=f"{source}; range of ours")


BATCH = Choice(
    options=(8, 16, 32, 64, 128, 256),
    default=32,
    source="LAF, arXiv 2404.00506 (32)",
    unit="pairs",
    fixed=True,
)

OPTIMIZER = Choice(
    options=("adam", "sgd"),
    default="adam",
    source="LAF, arXiv 2404.00506 (adam); sgd has momentum 0.9, as in most authors' code",
    fixed=True,
)
WEIGHT_DECAY = Float(
    low=0,
    high=0.01,
    default=0,
    source="LAF, arXiv 2404.00506 (0); SalUn's code, arXiv 2310.12508, with SGD (5e-4)",
    fixed=True,
)
# What all methods with steps of an optimizer share, besides their learning rates.
STEPS: Mapping[str, AnyParameter] = {
    "batch": BATCH,
    "optimizer": OPTIMIZER,
    "weight_decay": WEIGHT_DECAY,
}
NEW_LABELS = Choice(
    options=("fixed", "redrawn"),
    default="fixed",
    source="ours (fixed); authors' code of arXiv 2310.12508 (redrawn)",
    fixed=True,
)
SALUN_CODE = "authors' code of arXiv 2310.12508, which all its methods share: batch 256"
SALUN_SGD: Mapping[str, Value] = {"optimizer": "sgd", "weight_decay": 5e-4, "batch": 256}


def alpha(when: Mapping[str, tuple[Value, ...]] | None = None) -> Float:
    """Return the range of α in `λ ~ Beta(α, α)`; `when` is the condition that α exists."""
    source = "authors' code of arXiv 2502.10288 (0.75)"
    return Float(low=0.1, high=4, log=True, default=0.75, source=source, when=when or {})


SHARPEN_T = Float(
    low=0.1,
    high=1,
    default=0.3,
    limits=(0.01, 1),
    source="authors' code of arXiv 2502.10288 (0.3)",
    # Labels are one-hot already; only predictions can be sharpened.
    when={"labels": ("agnostic",)},
)

PAIRING = Choice(
    options=("any", "different_class"),
    default="any",
    source="arXiv 2502.10288 (any); different_class is ours",
)
