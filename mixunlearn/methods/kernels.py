"""The kernels of a model's convolutions, for methods that change them directly."""

from torch import nn

from mixunlearn.errors import InputError
from mixunlearn.models import StagedModel


def kernels(model: StagedModel) -> dict[str, nn.Parameter]:
    """Return the trained kernels of all 2-d convolutions by name, (out, in, h, w); each once.

    Raises:
        InputError: a kernel is not a parameter but computed from others, as weight norm and
            spectral norm do: a change of it would be lost.
    """
    names = {id(weight): name for name, weight in model.trained()}
    found = {}
    for place, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            kernel = module._parameters.get("weight")
            if kernel is None:
                why = f"the kernel of {place} is computed (weight norm or spectral norm)"
                remedy = f"{why}, and the method must change it; choose another model or method"
                raise InputError("model.name", type(model).__name__, remedy)
            if id(kernel) in names:
                # By the parameter's name: tied convolutions share one, which has one name.
                found[names[id(kernel)]] = kernel
    return found
