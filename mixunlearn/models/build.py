"""Building a classifier by its name."""

import torch

from mixunlearn.errors import InputError
from mixunlearn.models.factories import find_factory, first_line
from mixunlearn.models.staged import StagedModel
from mixunlearn.models.wrapped import Wrapped
from mixunlearn.wording import counted

LOGITS_DIM = 2
# Each pooling and stride halves the resolution; smaller images would leave no pixel.
SMALLEST_IMAGE = {"cnn": 4, "convnet": 8, "resnet18": 8, "resnet34": 8, "resnet50": 8}


def build_model(
    name: str, *, image_shape: tuple[int, int, int], classes: int, seed: int, width: int | None
) -> StagedModel:
    """Build a freshly initialised model.

    Args:
        name: of the model; see `find_factory`.
        image_shape: (channels, height, width) of the images.
        classes: number of outputs, at least 2.
        seed: seed of the initialisation, in [0, 2**63); equal seeds give equal weights.
        width: channels of the first stage; `None` is the model's own default.

    Raises:
        InputError: there is no such model, it cannot process the images, or the number of its
            outputs is wrong.
    """
    size = image_shape[1:]
    if min(size) < SMALLEST_IMAGE.get(name, 1):
        remedy = f"images of {size[0]}×{size[1]} are too small; choose another model"
        raise InputError("model.name", name, remedy)
    factory = find_factory(name)
    options = {} if width is None else {"width": width}
    # PyTorch's layers draw weights from the global generator; fork_rng restores it afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            built = factory(channels=image_shape[0], size=size, classes=classes, **options)
            model = built if isinstance(built, StagedModel) else Wrapped(built, image_shape)
            outputs = _outputs(model, image_shape)
        except Exception as error:  # models raise any type for images they cannot process
            images = "×".join(map(str, image_shape))
            remedy = (
                f"cannot be built for images of {images} ({first_line(error)}); "
                "choose another model"
            )
            raise InputError("model.name", name, remedy) from error
    if outputs != classes:
        numbers = f"{counted(outputs, 'output')} for {counted(classes, 'class')}"
        remedy = f"gives {numbers}; the numbers must be equal"
        raise InputError("model.name", name, remedy)
    # Convolutions are up to 1.6 times faster in this layout, on CPUs and on GPUs.
    return model.to(memory_format=torch.channels_last)


@torch.no_grad()
def _outputs(model: StagedModel, image_shape: tuple[int, int, int]) -> int:
    """Return the number of logits that a model gives for an image.

    Raises:
        ValueError: the output does not consist of logits.
    """
    logits = model.eval()(torch.zeros(2, *image_shape))
    model.train()
    if not isinstance(logits, torch.Tensor) or logits.ndim != LOGITS_DIM:
        raise ValueError("gives something else than logits (B, K)")
    return logits.shape[1]
