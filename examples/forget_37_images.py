"""Let your own model forget 37 of its training images, and compare it with a retrained one."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mixunlearn import unlearn


class Net(nn.Sequential):
    """A small network, as anybody could write it."""

    def __init__(self) -> None:
        layers = (nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten())
        super().__init__(*layers, nn.Linear(16 * 6 * 6, 10))


def train(images: Tensor, labels: Tensor) -> Net:
    """Return a trained model."""
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


torch.manual_seed(0)
pixels, digits = map(torch.from_numpy, load_digits(return_X_y=True))
images = (pixels.float().reshape(-1, 1, 8, 8) - 4.9) / 6.0  # normalised, as the model takes them
ends = ((0, 37), (37, 600), (600, 1797))
forget, retain, held_out = ((images[a:b], digits[a:b]) for a, b in ends)
model = train(images[:600], digits[:600])

result = unlearn(model, forget, retain, "neggrad", held_out=held_out, epochs=3, lr=3e-4)
print(result)  # result.model is the new model
print(result.evaluate(retrained=train(*retain)))
