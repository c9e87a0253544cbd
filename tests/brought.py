"""What users bring: a network with a cosine head, and their own way to train it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 10.0  # of cosines, which lie in [-1, 1]


class Cosine(nn.Module):
    """Logits that are scaled cosines between features and one direction for each class."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, features))

    def forward(self, x: Tensor) -> Tensor:
        return SCALE * F.normalize(x, dim=1) @ F.normalize(self.weight, dim=1).T


def net(*, channels: int, size: tuple[int, int], classes: int, width: int = 4) -> nn.Module:
    stem = nn.Conv2d(channels, width, 3, padding=1)
    stem.bias = nn.Parameter(torch.zeros(width), requires_grad=False)  # frozen by its author
    body = nn.Sequential(stem, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(body, Cosine(width * (size[0] // 2) * (size[1] // 2), classes))


def train(model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> None:
    """Train with SGD and momentum, as no recipe of ours does."""
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(
        [weight for weight in model.parameters() if weight.requires_grad], lr=0.1, momentum=0.9
    )
    model.train()
    for _ in range(4):
        for batch in torch.split(torch.randperm(len(images), generator=order), 32):
            loss = F.cross_entropy(model(images[batch] / 255), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
