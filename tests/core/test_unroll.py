"""What unrolling adds to the weights."""

import pytest
import torch
from torch.nn import functional as F

from mixunlearn.methods.unroll import Unroll
from mixunlearn.problem import Problem


def test_it_adds_the_gradients_that_sgd_would_take_off_for_the_forget_set(
    problem: Problem,
) -> None:
    plain, unrolled = Unroll(sigma=0.0, batch=16), Unroll(sigma=3.0, batch=16)
    for method in (plain, unrolled):
        method.prepare(problem.context(torch.device("cpu"), 0))
    assert plain.epoch() == unrolled.epoch()  # the pass over D_r is the same
    forget, model = plain.context.forget, plain.context.original
    model.requires_grad_(True)
    logits = model(forget.batch(torch.arange(len(forget))))
    total = F.cross_entropy(logits, forget.labels(torch.arange(len(forget))), reduction="sum")
    gradients = torch.autograd.grad(total, list(model.parameters()))
    for (name, weight), gradient in zip(plain.model.named_parameters(), gradients, strict=True):
        expected = weight + 3.0 * 0.01 / 16 * gradient
        torch.testing.assert_close(unrolled.model.get_parameter(name), expected)


def test_the_next_epoch_adds_the_same(problem: Problem) -> None:
    method = Unroll(sigma=2.0, lr=1e-9)  # the descent is too slow to be seen
    method.prepare(problem.context(torch.device("cpu"), 0))
    start = method.context.original.get_parameter("head.5.bias")
    places = [start.clone()]
    method.lr = 0.1
    for _ in range(2):
        method.epoch()
        places.append(method.model.get_parameter("head.5.bias").detach().clone())
    first, second = places[1] - places[0], places[2] - places[1]
    assert first.abs().max().item() > 1e-5
    assert first.tolist() == pytest.approx(second.tolist(), rel=1e-3, abs=1e-6)
