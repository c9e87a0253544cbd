"""Just-in-time unlearning against its equation."""

from typing import Any

import numpy as np
import pytest
import torch

from mixunlearn.methods.jit import JustInTime
from mixunlearn.problem import Problem

CPU = torch.device("cpu")


def prepared(problem: Problem, **parameters: Any) -> JustInTime:
    method = JustInTime(**parameters)
    method.prepare(problem.context(CPU, 0))
    method.set_mode()
    return method


def test_the_gradient_is_that_of_the_written_out_equation(problem: Problem) -> None:
    method = prepared(problem, lr=0.5, neighbours=3, sigma=0.2)
    model, forget_B = method.model, torch.arange(4)
    images = method.context.forget.batch(forget_B)
    rng = np.random.default_rng(0)
    total = torch.zeros(())
    for _ in range(3):
        draws = rng.standard_normal(images.shape, dtype=np.float32)
        for image, draw in zip(images, torch.from_numpy(draws), strict=True):
            near = torch.minimum(torch.maximum(image + 0.2 * draw, torch.zeros(())), torch.ones(()))
            change = model(image[None])[0] - model(near[None])[0].detach()
            total = total + change.square().sum().sqrt() / (near - image).square().sum().sqrt()
    slopes = torch.autograd.grad(total / 3, list(model.parameters()))
    before = [weight.clone() for weight in model.parameters()]
    scalars = method.update(forget_B, forget_B)
    assert scalars["loss"].item() == pytest.approx((total / 3).item(), rel=1e-4)
    for weight, old, slope in zip(model.parameters(), before, slopes, strict=True):
        torch.testing.assert_close(weight, old - 0.5 * slope, rtol=1e-3, atol=1e-5)


def test_sgd_has_no_momentum_and_the_statistics_stay(batch_norm_problem: Problem) -> None:
    method = prepared(batch_norm_problem)
    assert [group["momentum"] for group in method.stepper.param_groups] == [0.0]
    before = {name: value.clone() for name, value in method.model.named_buffers()}
    method.epoch()
    for name, value in method.model.named_buffers():
        assert torch.equal(value, before[name])


def test_it_makes_the_model_flatter_around_the_images_to_forget(problem: Problem) -> None:
    method = prepared(problem, lr=1e-3)
    slopes = [method.epoch()["slope"] for _ in range(3)]
    assert slopes[2] < 0.5 * slopes[0]
