"""Catastrophic forgetting of the last layers: finetuning that leaves all before them as it is."""

from dataclasses import dataclass

from torch import nn

from mixunlearn.methods.base import Context
from mixunlearn.methods.finetune import Finetune


@dataclass(kw_only=True)
class CFk(Finetune):
    """Minimise `CE(D_r)` over the last k layers alone, from the original model.

    Args:
        k: layers that are trained, at least 1: linear maps and convolutions with the norms that
            follow them, counted from the end in the order of their definition. All there are, if
            there are fewer.

    Source: Goel et al., arXiv 2201.06640 (CF-k).
    """

    k: int = 3

    def prepare(self, context: Context) -> None:
        """Freeze all before the last k layers."""
        super().prepare(context)
        self.frozen, trained = split(self.model, self.k)
        self.model.requires_grad_(False)
        for module in trained:
            for weight in module.parameters(recurse=False):
                weight.requires_grad_(True)

    def set_mode(self) -> None:
        """Put the last k layers alone into training mode."""
        super().set_mode()
        for module in self.frozen:  # or batch norm's statistics would continue changing
            module.eval()


def split(model: nn.Module, k: int) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return the modules that compute something: those before the last k layers, and the others.

    A layer begins with a matrix or a kernel; a norm, whose weights are vectors, begins none.
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
