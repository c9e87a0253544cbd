"""Building a classifier by its name."""

import torch
from torch import nn

from mixunlearn.border import code_of_others
from mixunlearn.errors import InputError
from mixunlearn.layout import channels_last
from mixunlearn.models.chain import Chain
from mixunlearn.models.factories import find_factory
from mixunlearn.models.staged import StagedModel, scaled_shape
from mixunlearn.models.wrapped import Wrapped
from mixunlearn.passes import uncounted
from mixunlearn.wording import counted

LOGITS_DIM = 2
# Each pooling and stride halves the resolution; smaller images would leave no pixel.
SMALLEST_IMAGE = {"cnn": 4, "convnet": 8, "resnet18": 8, "resnet34": 8, "resnet50": 8}


def build_model(
    name: str,
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    seed: int,
    width: int | None,
    size: int | None = None,
) -> StagedModel:
    """Build a freshly initialised model.

    Args:
        name: of the model; see `find_factory`.
        image_shape: (channels, height, width) of the images.
        classes: number of outputs, at least 2.
        seed: seed of the initialisation, in [0, 2**63); equal seeds give equal weights.
        width: channels of the first stage; `None` is the model's own default.
        size: pixels of the shorter side to which the model scales images first; `None`: not at all.

    Raises:
        InputError: there is no such model, it cannot process the images, or the number of its
            outputs is wrong.
    """
    shape = scaled_shape(image_shape[1:], size)
    smallest = SMALLEST_IMAGE.get(name, 1)
    if size is not None and min(shape) < smallest:
        remedy = f"{name} needs images of at least {smallest} pixels; raise it"
        raise InputError("model.size", size, remedy)
    if min(shape) < smallest:
        remedy = f"images of {shape[0]}×{shape[1]} are too small; choose another model"
        raise InputError("model.name", name, remedy)
    factory = find_factory(name)
    options = {} if width is None else {"width": width}

    def refusal(reason: str) -> InputError:
        images = "×".join(map(str, (image_shape[0], *shape)))
        remedy = f"cannot be built for images of {images} ({reason}); choose another model"
        return InputError("model.name", name, remedy)

    # PyTorch's layers draw weights from the global generator; fork_rng restores it afterwards.
    with code_of_others(refusal), uncounted(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = factory(channels=image_shape[0], size=shape, classes=classes, **options)
        model, outputs = as_staged(built, (image_shape[0], *shape))
    if size is not None:
        _require_scaling(name, model, size)
        model.size = size
    if outputs != classes:
        numbers = f"{counted(outputs, 'output')} for {counted(classes, 'class')}"
        remedy = f"gives {numbers}; the numbers must be equal"
        raise InputError("model.name", name, remedy)
    return model


def _require_scaling(name: str, model: StagedModel, size: int) -> None:
    """Refuse a size for a model that has its own `forward_with_features`, which ignores it."""
    if not isinstance(model, Chain | Wrapped):
        remedy = (
            f"{name} is a staged model of its own, which must scale images itself; leave it out"
        )
        raise InputError("model.size", size, remedy)


def as_staged(network: nn.Module, image_shape: tuple[int, int, int]) -> tuple[StagedModel, int]:
    """Return any classifier as a staged model, and its number of outputs.

    Its memory layout becomes the fastest one; what requires no gradient stays frozen.

    Args:
        network: on the CPU; it becomes a part of the result, and is left in training mode.
        image_shape: (channels, height, width) of the images.

    Raises:
        Exception: whatever the network raises that cannot process such images.
    """
    model = network if isinstance(network, StagedModel) else Wrapped(network, image_shape)
    outputs = _lay_out(model, image_shape)
    weights = model.named_parameters()
    still = frozenset(name for name, weight in weights if not weight.requires_grad)
    model.frozen = model.frozen | still
    return model, outputs


def _lay_out(model: StagedModel, image_shape: tuple[int, int, int]) -> int:
    """Bring a model into the layout it computes fastest in; return its number of outputs."""
    # Convolutions are up to 1.6 times faster with channels last, on CPUs and on GPUs.
    model.to(memory_format=torch.channels_last)
    try:
        return _outputs(model, image_shape)
    except RuntimeError:
        if not isinstance(model, Wrapped):
            raise
        # Many networks call `view` before their last layer, which that layout does not allow.
        model.channels_last = False
        model.to(memory_format=torch.contiguous_format)
        return _outputs(model, image_shape)


@torch.no_grad()
def _outputs(model: StagedModel, image_shape: tuple[int, int, int]) -> int:
    """Return the number of logits that a model gives for an image.

    Raises:
        ValueError: the output does not consist of logits.
    """
    images = channels_last(torch.zeros(2, *image_shape))
    logits, alone = model.eval()(images), model(images[:1])
    model.train()
    if not isinstance(logits, torch.Tensor) or logits.ndim != LOGITS_DIM:
        raise ValueError("gives something else than logits (B, K)")
    if alone.shape != logits[:1].shape:  # the last batch of a pass may have one image
        shape = "×".join(map(str, alone.shape))
        raise ValueError(f"gives {shape} numbers for one image instead of logits (1, K)")
    return logits.shape[1]
