"""Parameters of the entries to the NeurIPS 2023 unlearning challenge (arXiv 2410.01276)."""

from dataclasses import replace

from search_spaces.shared import BATCH, OPTIMIZER, WEIGHT_DECAY
from search_spaces.space import AnyParameter, Float, Int

ENTRY = "the challenge's entry, in arXiv 2410.01276"


def rate(default: float, source: str = ENTRY) -> Float:
    """Return the range of a learning rate of SGD, wider than that of Adam."""
    return Float(
        low=1e-5,
        high=0.1,
        log=True,
        default=default,
        source=f"{source} ({default:g}); range of arXiv 2410.01276",
        unit="1/step",
    )


def sgd(
    batch: int = 64, weight_decay: float = 5e-4, source: str = ENTRY
) -> dict[str, AnyParameter]:
    """Return what all methods with steps share, for a method whose authors use SGD."""
    return {
        "batch": replace(BATCH, default=batch, source=f"{source} ({batch})"),
        "optimizer": replace(OPTIMIZER, default="sgd", source=f"{source} (sgd)"),
        "weight_decay": replace(
            WEIGHT_DECAY, default=weight_decay, source=f"{source} ({weight_decay:g})"
        ),
    }


def course(default: int) -> Int:
    """Return the number of epochs that a schedule is for."""
    source = f"{ENTRY}: all epochs, there {default}"
    return Int(low=1, high=40, default=default, source=source, unit="epochs", fixed=True)
