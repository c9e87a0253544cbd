"""A replayed step is the step; what cannot be captured is taken as usual."""

import warnings
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixunlearn import acceleration
from mixunlearn.data.batches import Samples
from mixunlearn.data.streaming import Streamed
from mixunlearn.host_values import actual, from_host, number_from_host
from mixunlearn.methods import METHODS, Context, Method
from mixunlearn.methods.base import OneStep
from mixunlearn.methods.finetune import Finetune
from mixunlearn.models import build_model
from mixunlearn.passes import Passes, counted
from mixunlearn.population import train_epoch
from mixunlearn.problem import Problem
from mixunlearn.recipes import Recipe
from mixunlearn.training import Training
from tests.tape import Tapes

CPU = torch.device("cpu")
STEPPING = [name for name in METHODS if not issubclass(METHODS[name], OneStep) and name != "rum"]
EPOCHS = 2
# With so few images, schedules and rare steps are within the first epochs.
SHORT: dict[str, dict[str, Any]] = {
    "jit": {"neighbours": 2},
    "kde": {"warmup_epochs": 1},
    "mixunlearn": {"gen_interval": 2, "adversary": "ema"},
    "random_label": {"new_labels": "redrawn"},
    "scrub": {"rewind": True, "lr_decay": 0.5, "forget_batch": 4},
    "sfr_on": {"forget_every": 2},
    "unsir": {"share": 1.0},
}
BATCH = {"dsmixup": 2, "sisa": 4, "l2ul": 40}  # few images a shard, many adversarial ones
ALIKE = 1e-5  # relative: SGD's fused kernel rounds in another order


@pytest.fixture
def taped(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Capture on the CPU, and complain loudly if that fails."""
    monkeypatch.setitem(acceleration.CAPTURERS, "cpu", Tapes)
    monkeypatch.setattr(acceleration, "WARM_UP", 2)
    monkeypatch.setattr(Tapes, "replays", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def context(problem: Problem) -> Context:
    """Ten steps in an epoch of most methods."""
    whole = problem.context(CPU, 0)
    return replace(
        whole,
        forget=whole.forget.at(slice(40)),
        retain=whole.retain.at(slice(76)),
        augmentation="crop_flip",
    )


def run(
    name: str, context: Context, *, capture: bool
) -> tuple[list[dict[str, float]], Method, Passes]:
    method = METHODS[name](**SHORT.get(name, {}))
    method.prepare(replace(context, capture=capture))
    method.batch = BATCH.get(name, 8)
    passes = Passes()
    with counted(passes):
        return [method.epoch() for _ in range(EPOCHS)], method, passes


@pytest.mark.parametrize("name", STEPPING)
def test_replayed_steps_are_those_taken_as_usual(name: str, context: Context, taped: None) -> None:
    expected, usual, images = run(name, context, capture=False)
    assert Tapes.replays == 0
    found, replayed, replayed_images = run(name, context, capture=True)
    assert replayed_images == images, "replayed steps count their images"
    assert Tapes.replays > 3, "too few steps were replayed for this to be a test"
    assert replayed.rng.bit_generator.state == usual.rng.bit_generator.state
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=ALIKE, abs=ALIKE)
    for value, other_value in zip(
        replayed.model.state_dict().values(), usual.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(value, other_value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["finetune", "mixunlearn", "amnesiac"])
def test_replayed_steps_read_their_own_images_where_these_are_streamed(
    name: str, context: Context, taped: None
) -> None:
    expected = run(name, context, capture=False)[0]
    forget, retain = (
        replace(samples, images_NCHW=Streamed.of(samples.whole().numpy(), CPU))
        for samples in (context.forget, context.retain)
    )
    found = run(name, replace(context, forget=forget, retain=retain), capture=True)[0]
    assert Tapes.replays > 3
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=ALIKE, abs=ALIKE)


def test_a_checkpoint_has_the_same_types_and_goes_on_in_either_way(
    context: Context, taped: None
) -> None:
    states = []
    for first in (True, False):
        method = Finetune(batch=8, optimizer="sgd")
        method.prepare(replace(context, capture=first))
        method.epoch()
        other = Finetune(batch=8, optimizer="sgd")
        other.prepare(replace(context, capture=not first))
        other.epoch()  # captures with tensors that the checkpoint replaces
        other.load_state_dict(method.state_dict())
        assert isinstance(method.stepper.param_groups[0]["lr"], float)
        assert not method.stepper.param_groups[0]["fused"]
        other.epoch()
        states.append(other.state_dict())
    for one, another in zip(*(state["model"].values() for state in states), strict=True):
        torch.testing.assert_close(one, another, rtol=1e-4, atol=1e-5)
    assert states[0]["optimizer"]["param_groups"] == states[1]["optimizer"]["param_groups"]


@dataclass(kw_only=True)
class Forgetful(Finetune):
    """Draws from its generator as no capturable method may."""

    capturable = True
    way: str = "number"

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        factor: Any = self.rng.random() + 0.5
        if self.way == "tensor":
            factor = torch.tensor(factor)
        loss = self.cross_entropy(self.context.retain, retain_B)
        if self.way == "reads":
            factor = 1 + loss.item()
        self.step(loss * factor)
        return {"loss": loss.detach()}


@pytest.mark.parametrize("way", ["number", "tensor", "reads"])
def test_what_cannot_be_replayed_is_taken_as_usual_and_said(
    way: str, context: Context, taped: None
) -> None:
    states = []
    for capture in (False, True):
        method = Forgetful(batch=8, way=way, lr=1e-2)
        method.prepare(replace(context, capture=capture))
        if capture:
            with pytest.warns(UserWarning, match="^Forgetful: steps are taken one opera") as said:
                method.epoch()
            assert len(said) == 1
        else:
            method.epoch()
        states.append((method.state_dict(), method.epoch()))
    (usual, losses), (fallen_back, others) = states
    assert others == losses
    assert usual["rng"] == fallen_back["rng"]
    for one, another in zip(usual["model"].values(), fallen_back["model"].values(), strict=True):
        assert torch.equal(one, another)


@dataclass(kw_only=True)
class Outsider(Finetune):
    """A class of another package, which says nothing."""


def test_classes_of_other_packages_are_captured_only_if_they_say_so(
    context: Context, taped: None
) -> None:
    assert Finetune.can_capture()
    assert Forgetful.can_capture()
    assert not Outsider.can_capture()
    method = Outsider(batch=8)
    method.prepare(context)
    method.epoch()
    assert Tapes.replays == 0


def test_every_method_with_steps_can_be_captured() -> None:
    assert [name for name in STEPPING if not METHODS[name].can_capture()] == []


class Drawing(torch.nn.Module):
    """A step of its own: a weight, a rate and draws."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))


def test_each_kind_of_step_is_captured_by_itself(taped: None) -> None:
    model, rng, rate = Drawing(), np.random.default_rng(0), [1.0]
    steps = acceleration.Steps("it", lambda: {"model": model}, rng, CPU)

    def step(value: Tensor) -> dict[str, Tensor]:
        drawn = from_host(lambda: torch.from_numpy(rng.random(3)), CPU)
        # As images that are read from a file for the indices of a step.
        read = number_from_host(lambda: float(actual(value).numpy().sum()), CPU)
        with torch.no_grad():
            model.weight.add_(number_from_host(lambda: rate[0], CPU) * drawn * read)
        return {"loss": model.weight.detach().sum()}

    def take(count: int, size: int, kind: Hashable = ()) -> int:
        before = Tapes.replays
        for number in range(count):
            rate[0] = 1.0 + number
            steps.take(step, torch.full((size,), 1.0 + number), kind=kind)
        return Tapes.replays - before

    assert take(6, 4) == 4  # two steps first
    assert take(2, 2) == 0  # the last batch of an epoch is smaller
    assert take(3, 4) == 3
    model.eval()
    assert take(3, 4) == 1
    model.train()
    assert take(1, 4) == 1
    assert take(3, 4, kind="other") == 1
    expected, again = torch.zeros(3, dtype=torch.float64), np.random.default_rng(0)
    for count, size in ((6, 4), (2, 2), (3, 4), (3, 4), (1, 4), (3, 4)):
        for number in range(count):
            expected += (1.0 + number) ** 2 * size * torch.from_numpy(again.random(3))
    torch.testing.assert_close(model.weight.detach().double(), expected, rtol=1e-5, atol=0)


def training(seed: int, recipe: Recipe, *, capture: bool) -> Training:
    generator = torch.Generator().manual_seed(seed)
    samples = Samples(
        images_NCHW=torch.randint(256, (60, 1, 8, 8), dtype=torch.uint8, generator=generator),
        labels_N=torch.randint(10, (60,), generator=generator),
    )
    model = build_model("cnn", image_shape=(1, 8, 8), classes=10, seed=seed, width=4)
    return Training(model, samples, recipe, seed, capture=capture)


ADAM = Recipe(epochs=2, batch=8)
SGD = Recipe(
    epochs=2, batch=8, lr=0.05, optimizer="sgd", schedule="one_cycle", augmentation="crop_flip"
)


@pytest.mark.parametrize("recipe", [ADAM, SGD, replace(ADAM, precision="bfloat16")])
def test_a_captured_training_is_the_training(recipe: Recipe, taped: None) -> None:
    usual, replayed = (training(0, recipe, capture=capture) for capture in (False, True))
    for _ in range(recipe.epochs):
        assert replayed.epoch()["loss"] == pytest.approx(usual.epoch()["loss"], rel=ALIKE)
    assert Tapes.replays > 3
    for one, other in zip(usual.model.parameters(), replayed.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_trainings_together_are_captured_too(taped: None) -> None:
    usual, replayed = (
        [training(n, ADAM, capture=capture) for n in (0, 1)] for capture in (False, True)
    )
    for _ in range(ADAM.epochs):
        assert train_epoch(replayed) == pytest.approx(train_epoch(usual), rel=ALIKE)
    assert Tapes.replays > 3
