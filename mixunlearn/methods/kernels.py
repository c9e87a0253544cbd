"""The kernels of a model's convolutions, for methods that change them directly."""

from torch import nn

from mixunlearn.errors import InputError
from mixunlearn.models import StagedModel


def kernels(model: StagedModel) -> dict[str, nn.Parameter]:
    """Return the trained kernels of all 2-d convolutions by name, (out, in, h, w).

    Tied convolutions share one kernel, which is returned once. Weight norm and spectral norm
    compute a kernel from a parameter of the same shape: that parameter is returned. A change of it
    reaches the kernel except for its scale, which these norms set.

    Raises:
        InputError: a kernel is computed from parameters of other shapes.
    """
    names = {id(weight): name for name, weight in model.trained()}
    found = {}
    for place, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            kernel = _kernel(place, module, type(model).__name__)
            if id(kernel) in names:
                found[names[id(kernel)]] = kernel
    return found


def _kernel(place: str, module: nn.Conv2d, model: str) -> nn.Parameter:
    """Return a convolution's kernel, or the parameter that it is computed from."""
    # Not from `module.weight`: reading it takes a step of spectral norm's iteration.
    shape = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
    alike = [weight for weight in module.parameters() if weight.shape == shape]
    if not alike:
        why = f"the kernel of {place} is computed from parameters of other shapes"
        remedy = f"{why}, and the method must change it; choose another model or method"
        raise InputError("model.name", model, remedy)
    # The last one: weight norm's factors come first, and may have the shape of a 1×1 kernel.
    return alike[-1]
