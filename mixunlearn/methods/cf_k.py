"""Catastrophic forgetting of the last layers: finetune them and freeze all layers before them."""

from dataclasses import dataclass

from torch import nn

from mixunlearn.methods.base import Context
from mixunlearn.methods.finetune import Finetune


@dataclass(kw_only=True)
class CFk(Finetune):
    """Minimise `CE(D_r)` over the last k layers only, starting from the original model.

    Args:
        k: number of layers to train, at least 1. A layer is a linear map or a convolution with the
            norms that follow it; layers are counted from the end, in the order of their definition.
            If the model has fewer layers, all are trained.

    Source: Goel et al., arXiv 2201.06640 (CF-k).
    """

    k: int = 3

    def prepare(self, context: Context) -> None:
        """Freeze everything before the last k layers."""
        super().prepare(context)
        self.frozen, last = split(self.model, self.k)
        weights = [weight for module in last for weight in module.parameters(recurse=False)]
        trained = [weight for weight in weights if weight.requires_grad]
        self.model.requires_grad_(False)
        for weight in trained:
            weight.requires_grad_(True)

    def set_mode(self) -> None:
        """Put only the last k layers into training mode."""
        super().set_mode()
        for module in self.frozen:  # otherwise, the statistics of frozen batch norms would change
            module.eval()


def split(model: nn.Module, k: int) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return the computing modules before the last k layers, and those of the last k layers.

    A layer begins with a module that has a matrix or a kernel. A norm has only vectors as weights,
    so it belongs to the layer before it.
    """
    modules = [
        module
        for module in model.modules()
        if list(module.parameters(recurse=False)) or not list(module.children())
    ]
    starts = [
        place
        for place, module in enumerate(modules)
        if any(weight.dim() > 1 for weight in module.parameters(recurse=False))
    ]
    cut = starts[-min(k, len(starts))]
    return modules[:cut], modules[cut:]
