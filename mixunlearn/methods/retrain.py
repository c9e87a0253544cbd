"""Retraining from scratch: what every other method is measured against."""

from dataclasses import dataclass

from mixunlearn.methods.base import Context
from mixunlearn.methods.finetune import Finetune
from mixunlearn.models import StagedModel
from mixunlearn.signature import seed_for


@dataclass(kw_only=True)
class Retrain(Finetune):
    """Minimise `CE(D_r)` from a fresh initialisation: exact unlearning, at full price."""

    lr: float = 1e-3

    def start(self, context: Context) -> StagedModel:
        """Return a model as references start: untrained, unless they have pretrained weights."""
        return context.initial(seed_for("initial weights", context.seed)).to(context.device)
