"""Retraining from scratch: all other methods are compared with it."""

from dataclasses import dataclass

from mixunlearn.methods.base import Context
from mixunlearn.methods.finetune import Finetune
from mixunlearn.models import StagedModel
from mixunlearn.signature import seed_for


@dataclass(kw_only=True)
class Retrain(Finetune):
    """Minimise `CE(D_r)` from a fresh initialisation: exact unlearning, at the full cost."""

    lr: float = 1e-3

    def start(self, context: Context) -> StagedModel:
        """Return the model that references start from: untrained, or with pretrained weights."""
        return context.initial(seed_for("initial weights", context.seed)).to(context.device)
