"""Parameters of methods that forget classes with noise (arXiv 2111.08947, 2201.05629)."""

from search_spaces.shared import learning_rate
from search_spaces.space import AnyParameter, Float, Int

CODE = "authors' code of arXiv 2111.08947"


def noise() -> dict[str, AnyParameter]:
    """Return the parameters of learning the noise, of impairing and of repairing."""
    return {
        "lr": learning_rate(1e-3, f"a tenth of the 0.01 in {CODE}, and so in training its model"),
        "lr_impair": learning_rate(2e-3, f"a tenth of the 0.02 in {CODE}, see lr"),
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
    }
