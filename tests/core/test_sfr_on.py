"""SFR-on against its formulas, stated in another way."""

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mixunlearn.methods.sfr_on import SfrOn, adaptive
from mixunlearn.problem import Problem

CPU = torch.device("cpu")


def prepared(problem: Problem, **hyperparameters: Any) -> SfrOn:
    method = SfrOn(**hyperparameters)
    method.prepare(problem.context(CPU, 0))
    return method


@pytest.mark.parametrize(
    ("lam", "expected"), [(0.5, [6, 3, 2]), (1.0, [36, 9, 4]), (0.0, [1, 1, 1])]
)
def test_images_with_a_larger_loss_count_less(lam: float, expected: list[float]) -> None:
    shares = torch.tensor(expected) / sum(expected)
    torch.testing.assert_close(adaptive(torch.tensor([1.0, 4.0, 9.0]), lam), shares)
    assert adaptive(torch.tensor([0.0, 0.0]), lam).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("max_norm", "cut"), [(1e-3, True), (1e6, False)])
def test_a_step_of_forgetting(problem: Problem, max_norm: float, cut: bool) -> None:
    method = prepared(problem, alpha=3.0, max_norm=max_norm, lam=1.0, weight_decay=0.01)
    method.step_number, method.steps_of_epoch = 0, 1
    reference = method.start(method.context)
    forget_B = torch.arange(6)
    images, labels_B = method.context.forget.batch(forget_B), method.context.forget.labels(forget_B)
    losses = F.cross_entropy(reference(images), labels_B, reduction="none")
    # Σ w_i·CE_i with w_i ∝ 1/CE_i has the gradient of Σ log CE_i, divided by Σ 1/CE_i.
    objective = -3.0 * losses.log().sum() / (1 / losses).sum().detach()
    objective.backward()  # type: ignore[no-untyped-call]
    for name, weight in reference.named_parameters():
        assert weight.grad is not None
        weight.grad *= method.masks[name]
    length = torch.nn.utils.clip_grad_norm_(reference.parameters(), max_norm).item()
    assert (length > max_norm) == cut
    method.forget(forget_B)
    for name, weight in reference.named_parameters():
        assert weight.grad is not None
        expected = weight - 0.01 * (weight.grad + 0.01 * weight)
        torch.testing.assert_close(method.model.get_parameter(name), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("gamma", [0.5, 10.0])
def test_salient_weights_matter_more_to_d_f(problem: Problem, gamma: float) -> None:
    method = prepared(problem, gamma=gamma, batch=1000)  # one mini-batch
    slopes = []
    for samples in (method.context.forget, method.context.retain):
        model = method.start(method.context)
        order_N = torch.arange(len(samples))
        loss = F.cross_entropy(model(samples.batch(order_N)), samples.labels(order_N))
        slopes.append(torch.autograd.grad(loss, list(model.parameters())))
    for (name, _), forget, retain in zip(method.model.named_parameters(), *slopes, strict=True):
        clear = (forget.abs() / retain.abs() / math.sqrt(gamma)).log().abs() > 1e-2
        clear &= forget.abs() + retain.abs() > 1e-5  # others are compared with the floor
        expected = forget.abs() > math.sqrt(gamma) * retain.abs()
        assert torch.equal(method.masks[name].bool()[clear], expected[clear])
    assert 0.01 < torch.cat([mask.flatten() for mask in method.masks.values()]).mean() < 0.99


def test_it_forgets_before_every_kth_step_and_passes_over_d_f(problem: Problem) -> None:
    method = prepared(problem, forget_every=3, batch=8)
    batches = list(method.pairs())
    sizes = [len(forget_B) for forget_B, _ in batches]
    assert sizes == [0 if number % 3 else 8 for number in range(len(batches))]
    retain = torch.cat([retain_B for _, retain_B in batches])
    assert sorted(retain.tolist()) == list(range(len(method.context.retain)))
    counts = torch.bincount(torch.cat([forget_B for forget_B, _ in batches]))
    assert counts.max() - counts.min() <= 1


def test_both_rates_fall_over_the_run(problem: Problem) -> None:
    method = prepared(problem, decay_epochs=2, forget_every=1000)
    rates = []
    for _ in range(3):
        method.epoch()
        rates.append(method.stepper.param_groups[0]["lr"])
    last = (method.steps_of_epoch - 1) / method.steps_of_epoch
    expected = [0.01 * (1 + math.cos(math.pi * (done + last) / 2)) / 2 for done in (0, 1)]
    assert rates == pytest.approx([*expected, 0.0])
