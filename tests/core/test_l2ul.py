"""Adversarial images and importances of learning to unlearn, against their equations."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mixunlearn.methods.l2ul import MOST, LearningToUnlearn, held, importances
from mixunlearn.problem import Problem

CPU = torch.device("cpu")


def prepared(problem: Problem, **parameters: Any) -> LearningToUnlearn:
    method = LearningToUnlearn(**({"adversaries": 2, "attack_steps": 4} | parameters))
    method.prepare(problem.context(CPU, 0))
    return method


def test_adversarial_images_are_near_and_seen_as_another_class(problem: Problem) -> None:
    method = prepared(problem, epsilon=3.0, attack_steps=10)
    forget, made = method.context.forget, method.adversarial
    assert len(made) == 2 * len(forget)
    assert made.labels_N is not None
    assert forget.labels_N is not None
    images = forget.batch(torch.arange(len(forget)))
    distances = torch.cdist(made.whole().flatten(1), images.flatten(1))
    nearest = distances.min(dim=1)
    assert nearest.values.max() <= 3.0 + 1e-4
    assert 0 <= made.whole().min() <= made.whole().max() <= 1
    assert (made.labels_N != forget.labels_N[0]).all()  # the task forgets a single class
    predicted = method.context.original(made.images_NCHW).argmax(dim=1)
    assert (predicted == made.labels_N).float().mean() > 0.5
    before = method.context.original(images).argmax(dim=1)
    assert (before == forget.labels_N).float().mean() > 0.9


def test_there_are_no_more_adversarial_images_than_the_authors_have(problem: Problem) -> None:
    method = prepared(problem, adversaries=200, attack_steps=1)
    size = len(problem.forget.probs_NK)
    assert len(method.adversarial) == size * (MOST // size) <= MOST


def test_importances_are_mean_absolute_gradients(problem: Problem) -> None:
    context = problem.context(CPU, 0)
    images = context.forget.batch(torch.arange(7))
    found = importances(context.original, iter((images[:4], images[4:])))
    weights = [weight.clone().requires_grad_() for weight in context.original.parameters()]
    names = [name for name, _ in context.original.named_parameters()]

    def slopes(part: torch.Tensor) -> tuple[torch.Tensor, ...]:
        named = dict(zip(names, weights, strict=True))
        logits = torch.func.functional_call(context.original, named, (part,))
        return torch.autograd.grad(logits.pow(2).sum(1).sqrt().mean(), weights)

    for name, first, second in zip(names, slopes(images[:4]), slopes(images[4:]), strict=True):
        expected = (4 * first.abs() + 3 * second.abs()) / 7
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6)


def test_what_is_important_to_the_images_to_forget_may_move() -> None:
    found = held({"a": torch.tensor([1.0, 3.0, 2.0]), "b": torch.ones(2)})
    assert found["a"].tolist() == [1.0, 0.0, 0.5]
    assert found["b"].tolist() == [1.0, 1.0]


def test_a_step_follows_the_equation(problem: Problem) -> None:
    method = prepared(problem, hold=0.7, optimizer="sgd", weight_decay=0.0, lr=0.1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in method.model.parameters():
            weight.add_(0.01 * torch.randn(weight.shape, generator=generator))
    forget_B, places_B = torch.arange(4), torch.arange(12)
    method.set_mode()
    forget, made, model = method.context.forget, method.adversarial, method.model
    logits, labels = model(forget.batch(forget_B)), forget.labels(forget_B)
    right = logits.argmax(dim=1) == labels
    assert right.any()
    of_forget = F.cross_entropy(logits[right], labels[right], reduction="sum")
    of_made = F.cross_entropy(model(made.batch(places_B)), made.labels(places_B), reduction="sum")
    expected = list(torch.autograd.grad((of_made - of_forget) / 16, list(model.parameters())))
    before = [weight.detach().clone() for weight in model.parameters()]
    for place, (name, weight) in enumerate(method.context.original.named_parameters()):
        expected[place] = expected[place] + 0.7 * method.held[name] * (before[place] - weight)
    method.update(forget_B, places_B)
    for weight, old, slope in zip(model.parameters(), before, expected, strict=True):
        torch.testing.assert_close(weight, old - 0.1 * slope, rtol=1e-3, atol=1e-6)


def test_an_image_that_is_classified_wrongly_is_not_pushed_any_further(problem: Problem) -> None:
    method, forget_B = prepared(problem), torch.arange(6)
    assert method.known(forget_B) > 0
    forget = method.context.forget
    seen_N = method.model.eval()(forget.batch(torch.arange(len(forget)))).argmax(dim=1)
    wrong = replace(forget, labels_N=(seen_N + 1) % 10)
    method.context = replace(method.context, forget=wrong)
    assert method.known(forget_B) == 0


def test_an_epoch_passes_over_the_adversarial_images_once(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, seen = prepared(problem, batch=32, forget_batch=5), []
    update = LearningToUnlearn.update

    def spy(self: LearningToUnlearn, forget_B: torch.Tensor, retain_B: torch.Tensor) -> object:
        assert len(forget_B) == 5
        seen.extend(retain_B.tolist())
        return update(self, forget_B, retain_B)

    monkeypatch.setattr(LearningToUnlearn, "update", spy)
    method.epoch()
    assert sorted(seen) == list(range(len(method.adversarial)))
