"""Exact unlearning of the last layers: retrain them from scratch, freeze all layers before them."""

from dataclasses import dataclass

from mixunlearn.methods.base import Context
from mixunlearn.methods.cf_k import CFk, split
from mixunlearn.models import StagedModel
from mixunlearn.signature import seed_for


@dataclass(kw_only=True)
class EUk(CFk):
    """Minimise `CE(D_r)` over the last k layers only; they start untrained.

    Reset are the weights of the last k linear maps and convolutions, in the order of their
    definition, and of the norms that follow them, with batch norm's statistics. They become those
    of a model before retraining: with `model.weights`, pretrained ones. What the model's author
    froze keeps its value. A shortcut's convolution counts as a layer of its own, so on a ResNet k
    layers are fewer blocks than k / 2.

    Source: Goel et al., arXiv 2201.06640 (EU-k).
    """

    lr: float = 1e-3

    def start(self, context: Context) -> StagedModel:
        """Return a copy of the original with the last k layers of a model before retraining."""
        model = super().start(context)
        kept = {name: model.get_parameter(name).clone() for name in model.frozen}
        initial = context.initial(seed_for("initial weights", context.seed)).to(context.device)
        for module, untrained in zip(
            split(model, self.k)[1], split(initial, self.k)[1], strict=True
        ):
            # With batch norm's statistics, which belong to the old weights.
            module.load_state_dict(untrained.state_dict())
        for name, weight in kept.items():
            model.get_parameter(name).data.copy_(weight)
        return model
