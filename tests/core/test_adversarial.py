"""The search for adversarial examples, on models whose boundaries are known."""

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from mixunlearn.data.batches import Samples
from mixunlearn.methods.adversarial import Attack
from mixunlearn.models import StagedModel

UNIT = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)


class Planes(StagedModel):
    """Logits that are linear in the pixels."""

    stage_names, default_stage = (), ""

    def __init__(self, weight_KP: Tensor, bias_K: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight_KP), nn.Parameter(bias_K)
        self.eval().requires_grad_(False)

    def forward_with_features(
        self, images: Tensor, names: Iterable[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return images.flatten(1) @ self.weight.T + self.bias, {}


def grey(count: int, seed: int = 0) -> Tensor:
    """Images of 4 pixels, far from black and white."""
    generator = torch.Generator().manual_seed(seed)
    return 0.4 + 0.2 * torch.rand(count, 1, 2, 2, generator=generator)


NORMAL = torch.tensor([1.0, -2.0, 2.0, 0.0])  # of length 3


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (4.0, 1.0)])
def test_an_example_is_just_beyond_the_boundary(scale: float, shift: float) -> None:
    images, weight = grey(40), torch.stack((NORMAL, -NORMAL))
    distance_N = (images.flatten(1) @ NORMAL + 0.2).abs() / 3
    # A model that takes images on another scale, and undoes it.
    bias = torch.tensor([0.2, -0.2]) + shift / scale * weight.sum(dim=1)
    model, given = Planes(weight / scale, bias), scale * images - shift
    labels_N = model(given).argmax(dim=1)
    low = torch.full((1, 1, 1), -shift)
    attack = Attack(model=model, pixel_range=(low, low + scale), radius=0.04)
    found = attack.find(Samples(images_NCHW=given, labels_N=labels_N), ())
    assert found.labels_N is not None
    assert torch.equal(found.labels_N, 1 - labels_N)
    moved = (found.whole() - given).flatten(1) / scale
    length_N = moved.norm(dim=1)
    # A step is a tenth of the radius, which is at most 0.04 or twice the distance.
    assert (length_N >= distance_N * (1 - 1e-3)).all()
    assert (length_N <= distance_N + 0.1 * (2 * distance_N).clamp_min(0.04) + 1e-5).all()
    cosine_N = (moved @ NORMAL).abs() / (length_N * 3)
    torch.testing.assert_close(cosine_N, torch.ones(40))


def test_what_is_wrong_already_stays() -> None:
    model = Planes(torch.stack((NORMAL, -NORMAL)), torch.zeros(2))
    images = grey(8)
    wrong_N = 1 - model(images).argmax(dim=1)
    samples = Samples(images_NCHW=images, labels_N=wrong_N)
    found = Attack(model=model, pixel_range=UNIT, radius=0.04).find(samples, ())
    assert torch.equal(found.whole(), images)
    assert found.labels_N is not None
    assert torch.equal(found.labels_N, 1 - wrong_N)


def test_without_an_example_the_likeliest_wrong_class_is_taught() -> None:
    model = Planes(torch.zeros(4, 4), torch.tensor([5.0, 1.0, 4.0, 2.0]))
    samples = Samples(images_NCHW=grey(3), labels_N=torch.zeros(3, dtype=torch.int64))
    attack = Attack(model=model, pixel_range=UNIT, radius=0.04)
    for forgotten, expected in (((), [2, 2, 2]), ((0, 2), [3, 3, 3])):
        found = attack.find(samples, forgotten)
        assert found.labels_N is not None
        assert found.labels_N.tolist() == expected
        torch.testing.assert_close(found.images_NCHW, samples.images_NCHW)
