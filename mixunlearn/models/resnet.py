"""Residual networks with 18, 34 and 50 layers (He et al., CVPR 2016, arXiv 1512.03385)."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from mixunlearn.models.chain import Chain
from mixunlearn.models.staged import SMALL

STRIDES = (1, 2, 2, 2)


class Projection(nn.Conv2d):
    """A 1×1 convolution with a stride, which does not use the pixels in between.

    These pixels are removed first. With a stride and few channels, oneDNN's backward pass writes
    beyond its memory (oneDNN issue 6035), which ends the process.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        step: the stride.
    """

    def __init__(self, inputs: int, outputs: int, step: int) -> None:
        super().__init__(inputs, outputs, 1, bias=False)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / step, W / step)."""
        return super().forward(x[:, :, :: self.step, :: self.step])


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch norm, and a shortcut.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: of the first convolution.
    """

    expansion = 1

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        residual = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(residual + self.shortcut(x))


class Bottleneck(nn.Module):
    """Two 1×1 convolutions that reduce and restore the width, a 3×3 between them, and a shortcut.

    The 3×3 convolution has a quarter of the channels and the stride, as in torchvision: version
    1.5 of the paper's block.

    Args:
        inputs: channels of the input.
        outputs: channels of the output, a multiple of 4.
        stride: of the middle convolution.
    """

    expansion = 4

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = outputs // self.expansion
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        narrow = F.relu(self.norm1(self.conv1(x)))
        residual = self.norm3(self.conv3(F.relu(self.norm2(self.conv2(narrow)))))
        return F.relu(residual + self.shortcut(x))


def resnet(
    block: type[BasicBlock] | type[Bottleneck],
    depths: Sequence[int],
    *,
    channels: int,
    size: tuple[int, int],
    classes: int,
    width: int = 64,
) -> Chain:
    """Four stages of residual blocks and a linear head; stages 2 to 4 halve the resolution.

    LAF (arXiv 2404.00506) differs: images of 224×224 pixels with the paper's stem, and a linear
    layer with 256 outputs, without a ReLU after it, before the head.

    The stem depends on the images. Up to 64 pixels it is a 3×3 convolution, as used for CIFAR;
    above that, it is the paper's 7×7 with stride 2 and pooling: a quarter of the resolution.

    Args:
        block: type of the blocks.
        depths: number of blocks in each stage.
        channels: of the images.
        size: (H, W) of the images, each at least 8; in ResNet-18, a 32×32 image gives 256×8×8 at
            `layer3`, a 224×224 image 256×14×14.
        classes: number of outputs.
        width: channels of the first stage, times 4 with bottlenecks; 64 is the paper's, 16 trains
            on a CPU.
    """
    widths = [width, *(block.expansion * width * 2**stage for stage in range(4))]
    stem = _stem(channels, width, size)
    stages = [
        _blocks(block, inputs, outputs, depth, stride)
        for (inputs, outputs), depth, stride in zip(pairwise(widths), depths, STRIDES, strict=True)
    ]
    stages[0] = [*stem, *stages[0]]
    return Chain(
        stages={f"layer{place}": nn.Sequential(*stage) for place, stage in enumerate(stages, 1)},
        head=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes)),
        default_stage="layer3",
    )


resnet18: Callable[..., Chain] = partial(resnet, BasicBlock, (2, 2, 2, 2))
resnet34: Callable[..., Chain] = partial(resnet, BasicBlock, (3, 4, 6, 3))
resnet50: Callable[..., Chain] = partial(resnet, Bottleneck, (3, 4, 6, 3))


def _stem(channels: int, width: int, size: tuple[int, int]) -> list[nn.Module]:
    if min(size) <= SMALL:
        convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(width), nn.ReLU()]
    convolution = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
    pooling = nn.MaxPool2d(3, stride=2, padding=1)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU(), pooling]


def _blocks(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, outputs: int, depth: int, stride: int
) -> list[nn.Module]:
    first = block(inputs, outputs, stride)
    return [first, *(block(outputs, outputs, 1) for _ in range(depth - 1))]


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(Projection(inputs, outputs, stride), nn.BatchNorm2d(outputs))
