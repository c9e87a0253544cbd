"""The small CNN of LAF for MNIST and Fashion-MNIST (Shen et al., ICLR 2024, arXiv 2404.00506)."""

from torch import nn

from mixunlearn.models.chain import Chain

MIN_SIZE = 4


def cnn(*, channels: int, size: tuple[int, int], classes: int, width: int = 16) -> Chain:
    """Two 5×5 convolutions with pooling, a 256-d embedding, 128 hidden units, logits.

    Deviation: a ReLU follows each linear layer but the last. LAF's code has none there, and its
    method reads the 256-d embedding, where ours reads the 128 hidden units: the input of the last
    layer.

    Args:
        channels: of the images.
        size: (H, W) of the images, each at least 4; a 28×28 image gives features of 32×7×7.
        classes: number of outputs.
        width: channels of the first convolution; the second has twice as many.
    """
    features = 2 * width * (size[0] // MIN_SIZE) * (size[1] // MIN_SIZE)
    return Chain(
        stages={"pool1": _block(channels, width), "pool2": _block(width, 2 * width)},
        head=nn.Sequential(
            nn.Flatten(),
            nn.Linear(features, 256),
            nn.ReLU(),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, classes),
        ),
        default_stage="pool2",
    )


def _block(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(2)
    )
