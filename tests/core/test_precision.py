"""Steps are taken in one place, in the precision that a context or a training asks for."""

import ast
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mixunlearn.data.batches import Samples
from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS, Context
from mixunlearn.methods.base import OneStep
from mixunlearn.models import build_model
from mixunlearn.optimization import SGD, take_step
from mixunlearn.precision import FLOAT32, Precision
from mixunlearn.problem import Problem
from mixunlearn.recipes import Recipe
from mixunlearn.training import Training
from tests.quick_methods import quick

CPU = torch.device("cpu")
CORE = Path(__file__).parents[2] / "mixunlearn"
WITH_STEPS = [name for name, method in METHODS.items() if not issubclass(method, OneStep)]


class Watched(Precision):
    """bfloat16 that is sure of being computed within `forward`."""

    def backward(self, loss: torch.Tensor) -> None:
        assert torch.is_autocast_enabled(loss.device.type)
        super().backward(loss)


BFLOAT16 = Watched(name="bfloat16")


def test_there_is_float32() -> None:
    assert Precision() == FLOAT32 == Precision(name="float32")


def test_another_name_is_an_error_that_says_which_there_are() -> None:
    with pytest.raises(InputError) as caught:
        Precision(name="float8")
    assert str(caught.value) == "precision = 'float8': unknown; choose float32, bfloat16"


def test_a_step_follows_the_gradient_where_masks_allow_it() -> None:
    weight, unused = (torch.tensor([1.0, 2.0, 3.0], requires_grad=True) for _ in range(2))
    weight.grad = torch.full((3,), 100.0)  # left by an earlier step
    optimizer = SGD([weight, unused], lr=0.5)
    masks = [(weight, torch.tensor([1.0, 0.1, 0.0])), (unused, torch.zeros(3))]
    loss = (weight * torch.tensor([2.0, 4.0, 8.0])).sum()
    take_step(loss, optimizer, precision=FLOAT32, gradient_masks=masks)
    torch.testing.assert_close(weight.detach(), torch.tensor([0.0, 1.8, 3.0]))
    assert unused.tolist() == [1.0, 2.0, 3.0]


@pytest.fixture(scope="module")
def context(problem: Problem) -> Context:
    """Two steps per epoch."""
    whole = problem.context(CPU, 0)
    return replace(whole, forget=whole.forget.at(slice(40)), retain=whole.retain.at(slice(64)))


@pytest.mark.parametrize("name", WITH_STEPS)
def test_each_method_computes_in_the_precision_of_its_context(name: str, context: Context) -> None:
    losses = []
    for precision in (FLOAT32, BFLOAT16):
        method = quick(name)()
        method.prepare(replace(context, precision=precision))
        losses.append(method.epoch()["loss"])
        assert all(weight.dtype == torch.float32 for weight in method.model.parameters())
    assert math.isfinite(losses[1])
    assert losses[0] != losses[1]


def test_a_training_computes_in_its_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = Samples(
        images_NCHW=torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8, generator=generator),
        labels_N=torch.randint(10, (40,), generator=generator),
    )
    losses = []
    for precision in (FLOAT32, BFLOAT16):
        model = build_model("cnn", image_shape=(1, 8, 8), classes=10, seed=0, width=8)
        training = Training(model, samples, Recipe(epochs=1), seed=0, precision=precision)
        losses.append(training.epoch()["loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("name", WITH_STEPS)
def test_no_step_changes_the_mode_of_the_model(
    name: str, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The generator of MixUnlearn needs the unlearner frozen, if that is its adversary.
    parameters: dict[str, Any] = {"adversary": "original"} if name == "mixunlearn" else {}
    method = quick(name)(**parameters)
    method.prepare(
        replace(context, retain=context.retain.at(slice(12)), forget=context.forget.at(slice(12)))
    )
    method.batch = 2
    modes: list[bool] = []
    set_mode = torch.nn.Module.train

    def spy(module: torch.nn.Module, mode: bool = True) -> torch.nn.Module:
        if module is method.model:
            modes.append(mode)
        return set_mode(module, mode)

    monkeypatch.setattr(torch.nn.Module, "train", spy)
    method.epoch()
    assert 1 <= len(modes) <= 3  # an epoch of SCRUB has two passes, the first of FCS three


def verbs_of_a_step(source: str) -> Iterator[str]:
    """Yield the calls that make up a step of an optimizer; `self.step(loss)` is a method's."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            own = ast.unparse(node.func.value) in {"self", "super()"}
            if node.func.attr in {"backward", "zero_grad"} or (
                node.func.attr == "step" and not own
            ):
                yield node.func.attr


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("self.step(loss, optimizer=self.head)", []),
        ("self.optimizer.step()", ["step"]),
        ("(loss + norm).backward()", ["backward"]),
        ("torch.autograd.backward(loss)", ["backward"]),
        ("optimizer.zero_grad(set_to_none=True)", ["zero_grad"]),
    ],
)
def test_a_step_elsewhere_would_be_found(source: str, found: list[str]) -> None:
    assert list(verbs_of_a_step(source)) == found


def test_a_step_is_taken_in_one_place() -> None:
    found = {
        (str(path.relative_to(CORE)), verb)
        for path in CORE.rglob("*.py")
        for verb in verbs_of_a_step(path.read_text())
    }
    step = {("optimization.py", verb) for verb in ("zero_grad", "backward", "step")}
    assert found == step | {("precision.py", "backward")}
