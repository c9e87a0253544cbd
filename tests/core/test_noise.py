"""Methods that forget classes by noise."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mixunlearn.methods import METHODS, Context, Method
from mixunlearn.methods.gli import GLI
from mixunlearn.methods.noise import NoiseMethod
from mixunlearn.methods.unsir import UNSIR
from mixunlearn.problem import Problem
from tests.quick_methods import quick

CPU = torch.device("cpu")


def prepared(make: Callable[..., Method], context: Context, **parameters: Any) -> Any:
    method = make(**parameters)
    method.prepare(context)
    return method


def objective(method: NoiseMethod, images: torch.Tensor, classes_N: torch.Tensor) -> float:
    """Return the mean of `−CE + penalty·‖z‖²` with centred pixels z."""
    losses = F.cross_entropy(method.context.original(images), classes_N)
    norm = (2 * images - 1).flatten(1).square().sum(dim=1).mean()
    return (-losses + method.penalty * norm).item()


@pytest.mark.parametrize("name", ["gli", "unsir"])
class TestNoise:
    def test_the_original_is_wrong_about_it(self, name: str, problem: Problem) -> None:
        context = replace(problem.context(CPU, 0), forgotten=(0, 3))
        method = prepared(METHODS[name], context, noise_images=16)
        images, classes_N = method.forgotten
        assert images.shape == (32, 1, 8, 8)
        assert classes_N.tolist() == [0] * 16 + [3] * 16
        predicted = context.original(images).argmax(dim=1)
        assert (predicted != classes_N).float().mean() > 0.9

    def test_it_minimises_its_objective(self, name: str, problem: Problem) -> None:
        found = []
        for steps in (1, 10, 40):
            method = prepared(
                METHODS[name], problem.context(CPU, 0), noise_steps=steps, noise_images=4
            )
            found.append(objective(method, *method.forgotten))
        assert found == sorted(found, reverse=True)

    def test_a_penalty_keeps_it_small(self, name: str, problem: Problem) -> None:
        large, small = (
            prepared(
                METHODS[name], problem.context(CPU, 0), penalty=penalty, noise_images=4
            ).forgotten[0]
            for penalty in (0.0, 10.0)
        )
        assert (2 * small - 1).norm() < 0.3 * (2 * large - 1).norm()

    def test_it_is_part_of_the_first_epoch_alone(
        self, name: str, problem: Problem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        method = prepared(METHODS[name], problem.context(CPU, 0), batch=8, noise_images=16)
        sizes = []
        forward = method.model.forward

        def spy(images: torch.Tensor) -> Any:
            sizes.append(len(images))
            return forward(images)

        monkeypatch.setattr(method.model, "forward", spy)
        for expected in (16, 8):
            sizes.clear()
            method.epoch()
            assert sizes[0] == expected

    def test_each_phase_has_its_own_rate(self, name: str, problem: Problem) -> None:
        method = prepared(quick(name), problem.context(CPU, 0), lr=1e-3, lr_impair=1e-2, batch=8)
        rates, optimizers = [], []
        for _ in range(3):
            method.epoch()
            rates.append(method.stepper.param_groups[0]["lr"])
            optimizers.append(method.stepper)
        assert rates == [1e-2, 1e-3, 1e-3]
        assert optimizers[0] is not optimizers[1] is optimizers[2]

    def test_it_forgets_nothing_but_classes(self, name: str, problem: Problem) -> None:
        assert METHODS[name].incompatible("class", "aware") is None
        assert (
            METHODS[name].incompatible("random", "aware") == "can forget nothing but whole classes"
        )


def test_unsir_looks_at_a_part_of_the_retain_set_alone(problem: Problem) -> None:
    method: UNSIR = prepared(UNSIR, problem.context(CPU, 0), share=0.25)
    seen = [torch.cat([retain_B for _, retain_B in method.pairs()]) for _ in range(2)]
    assert len(set(seen[0].tolist())) == len(seen[0]) == round(0.25 * len(method.context.retain))
    assert set(seen[0].tolist()) == set(seen[1].tolist())
    assert seen[0].tolist() != seen[1].tolist()


def test_gli_looks_at_no_image(problem: Problem) -> None:
    context = problem.context(CPU, 0)
    corrupted = replace(
        context,
        forget=replace(context.forget, images_NCHW=torch.zeros_like(context.forget.images_NCHW)),
        retain=replace(context.retain, images_NCHW=torch.zeros_like(context.retain.images_NCHW)),
    )
    losses = [
        prepared(quick("gli"), some, batch=8).epoch()["loss"] for some in (context, corrupted)
    ]
    assert losses[0] == losses[1]


def test_the_original_is_right_about_glis_noise_of_kept_classes(problem: Problem) -> None:
    method: GLI = prepared(GLI, problem.context(CPU, 0), noise_images=16)
    images, classes_N = method.remembered
    assert set(classes_N.tolist()) == set(range(1, 10))
    predicted = method.context.original(images).argmax(dim=1)
    assert (predicted == classes_N).float().mean() > 0.9


def test_gli_leaves_the_statistics_of_batch_norm_alone(batch_norm_problem: Problem) -> None:
    method: GLI = prepared(quick("gli"), batch_norm_problem.context(CPU, 0), batch=8)
    method.epoch()
    original = dict(method.context.original.named_buffers())
    assert all(torch.equal(value, original[name]) for name, value in method.model.named_buffers())
