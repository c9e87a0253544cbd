"""A model and its data as a user brings them: this file knows nothing of the project.

    python own_net.py --train 2000 --test 800

writes `train.parquet` and `test.parquet` (24x24 RGB images of four classes with names), trains the
network on all of `train.parquet`, and writes its weights to `model.pt`, as a checkpoint that a
model in `DataParallel` leaves. `experiments/own_model.py` copies this file into a folder and runs
it there.
"""

import argparse
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

NAMES = ("cat", "dog", "frog", "owl")
SIZE = 24
WAVES = np.array([(1, 0.2), (0.2, 1), (0.7, 0.7), (0.9, -0.5)])  # direction of each class's wave
STRENGTH, NOISE = 40.0, 60.0  # of the wave and of the noise, in grey levels
CARELESS = 0.12  # share of labels that are drawn at random: a model can only learn them by heart
EPOCHS, LR, BATCH = 20, 1e-3, 64
HIDDEN = 256  # features
SCALE = 16  # of the cosines, so that the softmax can be certain

Array = npt.NDArray[Any]


class Cosine(nn.Module):
    """Logits are scaled cosines of the angles between the features and a vector for each class."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, features) * 0.1)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, classes)."""
        return SCALE * F.linear(F.normalize(features), F.normalize(self.weight))


class Net(nn.Module):
    """Two convolutions with batch norm, and a cosine head."""

    def __init__(self, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        width = 16 * (size[0] // 4) * (size[1] // 4)
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(width, HIDDEN), nn.ReLU())
        self.head = Cosine(HIDDEN, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of images in [0, 1]."""
        found: Tensor = self.head(self.hidden(self.body(images)))
        return found


def build(channels: int, size: tuple[int, int], classes: int) -> Net:
    """Return an untrained network."""
    return Net(channels, size, classes)


def train(model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> None:
    """Train a network in place on uint8 images (N, C, H, W)."""
    chance = torch.Generator().manual_seed(seed % 2**63)
    optimizer = torch.optim.Adam(model.parameters(), LR)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    model.train()
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(images), generator=chance), BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[rows].float() / 255), labels[rows])
            torch.autograd.backward(loss)
            optimizer.step()
        decay.step()
    model.eval()


def draw(count: int, seed: int) -> tuple[Array, Array]:
    """Return images, uint8 (N, 24, 24, 3), and labels: a wave in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(NAMES), count)
    steps = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)))
    angles = np.einsum("nd,dhw->nhw", WAVES[labels], steps) * 0.7
    waves = np.sin(angles + rng.uniform(0, 2 * np.pi, (count, 1, 1)))
    colours = rng.uniform(0.3, 1, (count, 1, 1, 3))
    noise = rng.normal(0, NOISE, (count, SIZE, SIZE, 3))
    images = 128 + STRENGTH * waves[..., None] * colours + noise
    careless = rng.random(count) < CARELESS
    labels[careless] = rng.integers(0, len(NAMES), int(careless.sum()))
    return np.clip(images, 0, 255).astype(np.uint8), labels


def table(images: Array, labels: Array) -> pa.Table:
    """Return a table of pictures and names of classes, as data sets are published."""
    pictures = []
    for number, image in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        pictures.append({"bytes": buffer.getvalue(), "path": f"{number:05d}.png"})
    names = [NAMES[label] for label in labels]
    return pa.table({"image": pa.array(pictures), "label": pa.array(names)})


def pixels(images: Array) -> Tensor:
    """Return images as a network takes them: (N, C, H, W)."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def trained(images: Tensor, labels: Tensor, seed: int) -> Net:
    """Return a network that was trained on images, uint8 (N, C, H, W)."""
    torch.manual_seed(seed)
    model = build(3, (SIZE, SIZE), len(NAMES))
    train(model, images, labels, seed)
    return model


def read(path: str) -> tuple[Tensor, Tensor]:
    """Return images, uint8 (N, C, H, W), and labels of a file."""
    content = pq.read_table(path)
    pictures = [Image.open(io.BytesIO(each["bytes"])) for each in content["image"].to_pylist()]
    images = pixels(np.stack([np.asarray(each) for each in pictures]))
    return images, torch.tensor([NAMES.index(name) for name in content["label"].to_pylist()])


def load(path: str) -> Net:
    """Return the network whose weights are in a file."""
    model = build(3, (SIZE, SIZE), len(NAMES))
    state = torch.load(path, weights_only=True)["state_dict"]
    model.load_state_dict({name.removeprefix("module."): each for name, each in state.items()})
    return model.eval()


def main() -> None:
    """Make the data, train the model, and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--test", type=int, default=800)
    args = parser.parse_args()
    images, labels = draw(args.train, 0)
    pq.write_table(table(images, labels), "train.parquet")
    pq.write_table(table(*draw(args.test, 1)), "test.parquet")
    model = trained(pixels(images), torch.from_numpy(labels), 0)
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": EPOCHS}, "model.pt")


if __name__ == "__main__":
    main()
