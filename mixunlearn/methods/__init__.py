"""Unlearning methods by name; a new one is a file here and a line in `METHODS`."""

from collections.abc import Mapping

from mixunlearn.methods.base import Context, Method
from mixunlearn.methods.finetune import Finetune
from mixunlearn.methods.l_mix import LMix
from mixunlearn.methods.mixunlearn import MixUnlearn
from mixunlearn.methods.neggrad import NegGrad
from mixunlearn.methods.retrain import Retrain
from mixunlearn.plugins import extended

METHODS: Mapping[str, type[Method]] = extended(
    {
        "finetune": Finetune,
        "l_mix": LMix,
        "mixunlearn": MixUnlearn,
        "neggrad": NegGrad,
        "retrain": Retrain,
    },
    "mixunlearn.methods",
)

__all__ = ["METHODS", "Context", "Method"]
