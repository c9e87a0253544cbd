"""Three convolutional blocks: a classifier for CIFAR-sized images that trains on a CPU."""

from torch import nn

from mixunlearn.models.chain import Chain


def convnet(*, channels: int, size: tuple[int, int], classes: int, width: int = 32) -> Chain:
    """Three blocks of convolution, batch norm, ReLU and pooling; a linear head.

    Args:
        channels: of the images.
        size: (H, W) of the images, each at least 8.
        classes: number of outputs.
        width: channels of the first block; each further block doubles them.
    """
    features = 4 * width * (size[0] // 8) * (size[1] // 8)
    return Chain(
        stages={
            "block1": _block(channels, width),
            "block2": _block(width, 2 * width),
            "block3": _block(2 * width, 4 * width),
        },
        head=nn.Sequential(nn.Flatten(), nn.Linear(features, classes)),
        default_stage="block2",
    )


def _block(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        # No bias: batch norm subtracts it again and has its own.
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
