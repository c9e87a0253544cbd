"""Exact unlearning of the last layers: they are retrained from scratch, all before them is kept."""

from dataclasses import dataclass

from mixunlearn.methods.base import Context
from mixunlearn.methods.cf_k import CFk, split
from mixunlearn.models import StagedModel
from mixunlearn.signature import seed_for


@dataclass(kw_only=True)
class EUk(CFk):
    """Minimise `CE(D_r)` over the last k layers alone, which start as untrained ones do.

    Source: Goel et al., arXiv 2201.06640 (EU-k).
    """

    lr: float = 1e-3

    def start(self, context: Context) -> StagedModel:
        """Return a copy of the original whose last k layers are as retraining has them at first."""
        model = super().start(context)
        initial = context.initial(seed_for("initial weights", context.seed)).to(context.device)
        for module, untrained in zip(
            split(model, self.k)[1], split(initial, self.k)[1], strict=True
        ):
            module.load_state_dict(untrained.state_dict())
        return model
