"""Models that are trained together become those that are trained one by one."""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy

import pytest
import torch
from torch import nn

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.batches import Samples
from mixunlearn.data.sources import SOURCES
from mixunlearn.models import StagedModel, build_model
from mixunlearn.models.chain import Chain
from mixunlearn.population import most_together, train_epoch, trains_together
from mixunlearn.recipes import Recipe
from mixunlearn.training import Training

RECIPE = Recipe(epochs=3, lr=3e-3)
# Relative to a tensor's size. Sums are rounded in another order, and training magnifies it: Adam
# divides by the size of a gradient, even if that is mere rounding. So after 30 steps in float32,
# tensors were 4e-5 apart, and Adam's squares 3e-3. In float64 nothing but rounding can be so small.
CLOSE, EXACT = 1e-3, 1e-9


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return SOURCES["digits"]()  # type: ignore[no-any-return]


def model_of(seed: int, name: str = "cnn") -> StagedModel:
    return build_model(name, image_shape=(1, 8, 8), classes=10, seed=seed, width=8)


class Doubles(Samples):
    """Images as float64."""

    def batch(self, indices_B: torch.Tensor) -> torch.Tensor:
        return super().batch(indices_B).double()


def training(
    digits: Dataset,
    seed: int,
    *,
    start: int = 0,
    count: int = 301,
    name: str = "cnn",
    kind: type[Samples] = Samples,
) -> Training:
    rows = slice(start, start + count)
    samples = kind(
        images_NCHW=torch.tensor(digits.images_NCHW[rows]),
        labels_N=torch.tensor(digits.labels_N[rows]),
    )
    model = model_of(seed, name)
    return Training(model.double() if kind is Doubles else model, samples, RECIPE, seed)


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """How far two tensors are apart, relative to the size of the second."""
    return float(torch.linalg.norm(found - expected) / torch.linalg.norm(expected))


def assert_alike(
    found: Sequence[Training], expected: Sequence[Training], close: float = CLOSE
) -> None:
    for one, other in zip(found, expected, strict=True):
        mine, its = one.state_dict(), other.state_dict()
        assert mine["epochs_done"] == its["epochs_done"]
        assert mine["rng"] == its["rng"]
        assert mine["optimizer"]["param_groups"] == its["optimizer"]["param_groups"]
        for name, weight in its["model"].items():
            assert apart(mine["model"][name], weight) < close, name
        for index, state in its["optimizer"]["state"].items():
            for name, value in state.items():
                assert apart(mine["optimizer"]["state"][index][name], value) < close, (index, name)


def test_together_they_learn_what_they_learn_alone(digits: Dataset) -> None:
    """Three models on the same images, one on as many others."""
    kinds = [(0, 0), (1, 0), (2, 0), (2, 400)]
    alone, together = (
        [training(digits, seed, start=start, kind=Doubles) for seed, start in kinds]
        for _ in range(2)
    )
    losses = []
    for _ in range(RECIPE.epochs):
        losses = [each.epoch()["loss"] for each in alone]
        assert train_epoch(together) == pytest.approx(losses, rel=EXACT)
        assert_alike(together, alone, EXACT)
    # It was no accident: they learned (guessing costs 2.3), and other seeds or images differ.
    assert max(losses) < 2
    first, *others = [next(each.model.parameters()).detach() for each in together]
    assert all(apart(other, first) > 0.01 for other in others)


def test_in_float32_they_differ_by_rounding_only(digits: Dataset) -> None:
    alone, together = ([training(digits, seed) for seed in range(3)] for _ in range(2))
    assert train_epoch(together) == pytest.approx([each.epoch()["loss"] for each in alone])
    assert_alike(together, alone)


def test_each_goes_on_alone_as_if_it_had_always_been(digits: Dataset) -> None:
    alone, together = (
        [training(digits, seed, kind=Doubles) for seed in range(2)] for _ in range(2)
    )
    train_epoch(together)
    for each in together:
        resumed = training(digits, 9, kind=Doubles)
        resumed.load_state_dict(deepcopy(each.state_dict()))
        each.epoch()
        resumed.epoch()
        assert_alike([resumed], [each], EXACT)
    for each in alone:
        each.epoch()
        each.epoch()
    assert_alike(together, alone, EXACT)


def test_those_that_cannot_be_stacked_are_trained_one_by_one(digits: Dataset) -> None:
    """Batch norm, another number of images, another epoch: numbers are exactly those alone."""

    def kinds() -> list[Training]:
        later = training(digits, 3)
        later.epoch()
        fewer = training(digits, 2, count=270)
        return [
            training(digits, 0, name="convnet"),
            training(digits, 1, name="convnet"),
            fewer,
            later,
        ]

    alone, mixed = kinds(), kinds()
    assert train_epoch(mixed) == [each.epoch()["loss"] for each in alone]
    for one, other in zip(mixed, alone, strict=True):
        for mine, its in zip(one.model.parameters(), other.model.parameters(), strict=True):
            assert torch.equal(mine, its)


def test_one_that_diverges_does_not_disturb_the_others(digits: Dataset) -> None:
    alone, together = ([training(digits, seed) for seed in range(3)] for _ in range(2))
    with torch.no_grad():
        next(together[1].model.parameters()).fill_(torch.nan)
    losses = train_epoch(together)
    assert [math.isfinite(loss) for loss in losses] == [True, False, True]
    for each in alone:
        each.epoch()
    assert_alike(together[::2], alone[::2])


def chain(layer: nn.Module, last: nn.Module | None = None) -> Chain:
    head = nn.Sequential(last or nn.Flatten(), nn.Linear(64, 10))
    return Chain(stages={"only": nn.Sequential(layer)}, head=head, default_stage="only")


class Doubled(nn.ReLU):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def frozen() -> StagedModel:
    model = model_of(0)
    model.frozen = frozenset(["head.1.weight"])
    return model


@pytest.mark.parametrize(
    "build",
    [
        lambda: model_of(0, "convnet"),  # batch norm
        lambda: chain(nn.Dropout()),
        lambda: chain(Doubled()),
        lambda: chain(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")),
        lambda: chain(nn.Conv2d(2, 2, 3, padding=1, groups=2)),
        lambda: chain(nn.ReLU(), nn.Flatten(start_dim=2)),
        lambda: chain(nn.ReLU(), nn.ReLU()),  # features that are still maps
        lambda: chain(nn.Linear(8, 8)),
        frozen,
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
    ],
)
def test_what_is_not_known_goes_alone(build: Callable[[], nn.Module]) -> None:
    assert not trains_together(build())


def uncommon(seed: int) -> Chain:
    """A model with every option that a known layer may have."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Chain(
            stages={
                "first": nn.Conv2d(1, 3, 3, padding="same", dilation=2, bias=False),
                "second": nn.Sequential(nn.Conv2d(3, 4, (3, 2), stride=2), nn.ReLU(inplace=True)),
            },
            head=nn.Sequential(nn.MaxPool2d(3, 1), nn.Flatten(), nn.Linear(8, 10, bias=False)),
            default_stage="first",
        )


def test_what_is_known_goes_together_with_all_its_options(digits: Dataset) -> None:
    assert trains_together(model_of(0))
    assert trains_together(uncommon(0))
    alone, together = (
        [Training(uncommon(seed), training(digits, 0).samples, RECIPE, seed) for seed in range(2)]
        for _ in range(2)
    )
    for each in alone:
        each.epoch()
    train_epoch(together)
    assert_alike(together, alone)


CUDA, CPU = torch.device("cuda"), torch.device("cpu")
MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


@pytest.mark.parametrize(
    ("name", "width", "shape", "batch", "device", "most"),
    [
        ("cnn", 8, (1, 8, 8), 32, CUDA, 64),
        ("cnn", 16, MNIST, 32, CUDA, 64),  # the largest that was measured
        ("cnn", 16, MNIST, 64, CUDA, 1),
        ("cnn", 16, CIFAR, 32, CUDA, 1),
        ("convnet", 8, (1, 8, 8), 32, CUDA, 1),  # batch norm
        ("cnn", 8, (1, 8, 8), 32, CPU, 1),
    ],
)
def test_small_models_are_trained_together_on_a_gpu(
    name: str, width: int, shape: tuple[int, int, int], batch: int, device: torch.device, most: int
) -> None:
    model = build_model(name, image_shape=shape, classes=47, seed=0, width=width)
    assert most_together(model, shape, batch, device) == most
