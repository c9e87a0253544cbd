"""Parameters of methods that forget classes with noise (arXiv 2111.08947, 2201.05629)."""

from dataclasses import replace

from search_spaces.shared import learning_rate
from search_spaces.space import AnyParameter, Float, Int, Published

CODE = "authors' code of arXiv 2111.08947"


PUBLISHED = Published(values={"lr": 0.01, "lr_impair": 0.02, "batch": 256}, source=CODE)


def _rate(default: float, source: str) -> Float:
    """Return the range of a learning rate, up to more than twice the published ones."""
    return replace(learning_rate(default, source), high=0.05)


def noise() -> dict[str, AnyParameter]:
    """Return the parameters of learning the noise, of impairing and of repairing."""
    return {
        "lr": _rate(1e-3, f"a tenth of the 0.01 in {CODE}, and so in training its model"),
        "lr_impair": _rate(2e-3, f"a tenth of the 0.02 in {CODE}, see lr"),
        "lr_noise": Float(
            low=0.01,
            high=1,
            log=True,
            default=0.1,
            source=f"{CODE} (0.1); range of ours",
            unit="1/step",
        ),
        "penalty": Float(
            low=0.01, high=10, log=True, default=0.1, source=f"{CODE} (0.1); range of ours"
        ),
        "noise_steps": Int(
            low=1, high=400, default=40, source=f"{CODE} (40)", unit="steps", fixed=True
        ),
        "noise_images": Int(
            low=1, high=1024, default=256, source=f"{CODE} (256)", unit="images", fixed=True
        ),
    }
