"""ResNet-18 with the stem for small images (He et al., CVPR 2016, arXiv 1512.03385)."""

from torch import Tensor, nn
from torch.nn import functional as F

from mixunlearn.models.staged import StagedModel


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch norm around a shortcut.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        residual = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(residual + self.shortcut(x))


def resnet18(*, channels: int, size: tuple[int, int], classes: int, width: int = 64) -> StagedModel:
    """ResNet-18 with a 3×3 stem and no initial pooling, as used for CIFAR.

    Args:
        channels: of the images.
        size: (H, W) of the images, each at least 8; a 32×32 image gives 256×8×8 at `layer3`.
        classes: number of outputs.
        width: channels of the first stage; 64 is the paper's, 16 trains on a CPU.
    """
    del size  # global pooling accepts any
    stem = (nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    first = nn.Sequential(*stem, BasicBlock(width, width, 1), BasicBlock(width, width, 1))
    return StagedModel(
        stages={
            "layer1": first,
            "layer2": _layer(width, 2 * width),
            "layer3": _layer(2 * width, 4 * width),
            "layer4": _layer(4 * width, 8 * width),
        },
        head=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, classes)),
        default_stage="layer3",
    )


def _layer(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(BasicBlock(inputs, outputs, 2), BasicBlock(outputs, outputs, 1))
