"""What may vary in MixUnlearn (arXiv 2502.10288)."""

from collections.abc import Mapping, Sequence

from search_spaces.shared import OURS, PAIRING, SHARPEN_T, STEPS, alpha, learning_rate
from search_spaces.space import Choice, Conflict, Float, Space, Value

VARIANT = "variant for ablations; the default is the paper's"
GENERATOR: Mapping[str, tuple[Value, ...]] = {"mixing": ("mixblock",)}
MIXTURES: Mapping[str, tuple[Value, ...]] = {"mixing": ("mixblock", "mixup")}
MIXING = Choice(
    options=("mixblock", "mixup", "none"), default="mixblock", source=VARIANT, fixed=True
)
LR_GEN = Float(
    low=1e-5, high=1e-2, log=True, default=1e-3, source=OURS, unit="1/step", when=GENERATOR
)
GEN_INTERVAL = Choice(
    options=(1, 2, 4, 8), default=4, source="arXiv 2502.10288 (4)", unit="steps", when=GENERATOR
)
ADVERSARY = Choice(
    options=("unlearner", "original", "ema", "none"),
    default="unlearner",
    source="arXiv 2502.10288 (unlearner); authors' code (original)",
    when=GENERATOR,
    fixed=True,
)
NO_LOSS = Conflict(values={"mixing": "none", "real": False}, reason="nothing is left to learn from")


def space(stages: Sequence[str], default_stage: str) -> Space:
    """Return the search space.

    Args:
        stages: the model's feature stages that the generator may read.
        default_stage: the stage of the paper, or our choice for other models.
    """
    return Space(
        NO_LOSS,
        # First, because conditions can name only parameters that come before.
        mixing=MIXING,
        real=Choice(options=(True, False), default=True, source=VARIANT, fixed=True),
        lr=learning_rate(),
        lr_gen=LR_GEN,
        omega=Float(low=0.05, high=20, log=True, default=1, source=OURS, when={"real": (True,)}),
        tau_gen=_temperature(0.1, 20, 1, when=GENERATOR),
        tau_mix=_temperature(0.1, 20, 1, when=MIXTURES),
        # At 1, a data task collapsed in our first experiment (48.5 % on test, retrained 97.6 %).
        tau_real=_temperature(0.5, 50, 5, when={"real": (True,)}),
        alpha=alpha(MIXTURES),
        sharpen_T=SHARPEN_T,
        gen_interval=GEN_INTERVAL,
        stage=Choice(
            options=tuple(stages),
            default=default_stage,
            source="AdAutoMix's third stage of ResNet-18; ours for other models",
            when=GENERATOR,
        ),
        pairing=PAIRING,
        adversary=ADVERSARY,
        lam_concat=Choice(
            options=(True, False), default=True, source="authors' code", when=GENERATOR, fixed=True
        ),
        relu=Choice(
            options=(True, False),
            default=False,
            source="arXiv 2502.10288 (without); authors' code (with, by its framework's default)",
            when=GENERATOR,
            fixed=True,
        ),
        mask_weight=Float(low=0, high=10, default=0, source=VARIANT, when=GENERATOR, fixed=True),
        **STEPS,
    )


def _temperature(
    low: float, high: float, default: float, when: Mapping[str, tuple[Value, ...]]
) -> Float:
    return Float(low=low, high=high, log=True, default=default, source=OURS, when=when)
