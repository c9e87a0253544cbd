"""The input sensitivities that MU-Mis weighs against each other."""

from dataclasses import replace

import pytest
import torch
from torch.func import jacrev, vmap

from mixunlearn.methods.mu_mis import MuMis, sensitivity
from mixunlearn.models import build_model
from mixunlearn.problem import Problem

CPU = torch.device("cpu")


def prepared(problem: Problem) -> MuMis:
    method = MuMis()
    method.prepare(problem.context(CPU, 0))
    return method


def test_a_sensitivity_equals_its_equation(batch_norm_problem: Problem) -> None:
    model = prepared(batch_norm_problem).model.eval()
    images = torch.rand((6, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    classes_B = torch.tensor([0, 3, 9, 1, 1, 5])
    found = sensitivity(model(images.requires_grad_()), classes_B, images)
    slopes = vmap(jacrev(lambda image: model(image[None])[0]))(images.detach())  # B C F H W
    own = slopes[torch.arange(6), classes_B].double()
    expected = own.flatten(1).square().sum(dim=1).mean().item()
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert found.requires_grad


def test_the_scalars_are_those_of_the_two_classes(problem: Problem) -> None:
    method = prepared(problem)
    scalars = method.update(torch.arange(8), torch.arange(8))
    assert scalars["loss"] == scalars["sensitivity"] - scalars["sensitivity_other"]
    again = prepared(problem)
    images = again.context.forget.batch(torch.arange(8)).requires_grad_()
    classes_B = again.context.forget.labels(torch.arange(8))
    expected = sensitivity(again.model.eval()(images), classes_B, images)
    assert scalars["sensitivity"].item() == pytest.approx(expected.item())


def test_the_other_class_is_any_but_ones_own(problem: Problem) -> None:
    method = prepared(problem)
    classes_B = torch.arange(10).repeat(200)
    others = method.others(classes_B)
    assert not (others == classes_B).any()
    assert set(others.tolist()) == set(range(10))


def test_without_labels_the_original_says_the_class(
    problem: Problem, agnostic_problem: Problem
) -> None:
    with_labels, without = prepared(problem), prepared(agnostic_problem)
    assert with_labels.classes_N.tolist() == problem.forget.samples.labels_N.tolist()
    assert without.classes_N.tolist() == problem.forget.probs_NK.argmax(axis=1).tolist()


def test_an_epoch_is_one_pass_over_the_forget_set(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, seen = prepared(problem), []
    update = MuMis.update

    def spy(self: MuMis, forget_B: torch.Tensor, retain_B: torch.Tensor) -> object:
        seen.extend(forget_B.tolist())
        return update(self, forget_B, retain_B)

    monkeypatch.setattr(MuMis, "update", spy)
    method.epoch()
    assert sorted(seen) == list(range(len(problem.forget.probs_NK)))


def test_attention_has_the_second_derivatives_it_takes(problem: Problem) -> None:
    context = problem.context(CPU, 0)
    original = build_model("vit", image_shape=(1, 8, 8), classes=10, seed=0, width=16)
    method = MuMis()
    method.prepare(replace(context, original=original.requires_grad_(False)))
    assert torch.isfinite(method.update(torch.arange(4), torch.arange(4))["loss"])


def test_forget_images_leave_batch_norms_statistics_alone(batch_norm_problem: Problem) -> None:
    method = prepared(batch_norm_problem)
    method.epoch()
    original = dict(method.context.original.named_buffers())
    for name, buffer in method.model.named_buffers():
        assert torch.equal(buffer, original[name])
