"""The entries to the NeurIPS 2023 challenge, against their equations."""

import math
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixunlearn.methods import METHODS, Method
from mixunlearn.methods.cfw import ConfuseFinetuneWeaken, balanced
from mixunlearn.methods.fcs import ForgetContrastStrengthen, from_uniform, repulsion
from mixunlearn.methods.kde import KnowledgeDistillationEntropy
from mixunlearn.methods.layers import last_layer, matrices
from mixunlearn.methods.prmq import PruneReinitializeMatchQuantize, entropy
from mixunlearn.methods.rni import RepeatedNoiseInjection, norm_weights
from mixunlearn.methods.schedules import cosine
from mixunlearn.problem import Problem

CPU = torch.device("cpu")
PLACES_B = torch.arange(12)


def prepared(name: str, problem: Problem, **parameters: Any) -> Any:
    method: Method = METHODS[name](**parameters)
    method.prepare(problem.context(CPU, 0))
    return method


def random_logits(rows: int, seed: int) -> Tensor:
    return torch.randn((rows, 10), generator=torch.Generator().manual_seed(seed))


def changed(method: Method) -> dict[str, int]:
    """By name, in how many places a tensor differs from the original's."""
    original = method.context.original
    return {
        name: int((weight != original.get_parameter(name)).sum())
        for name, weight in method.model.named_parameters()
    }


def test_a_rate_falls_along_half_a_cosine() -> None:
    for done in range(8):
        expected = 0.01 + 0.29 * math.cos(math.pi * done / 14) ** 2
        assert cosine(0.3, done, 7, 0.01) == pytest.approx(expected)
    assert cosine(0.3, 12, 7, 0.01) == pytest.approx(0.01)


class TestFCS:
    def test_the_distance_from_uniform_is_a_divergence(self) -> None:
        logits = random_logits(5, 0).double()
        uniform = torch.full((5, 10), 0.1, dtype=torch.float64)
        expected = F.kl_div(torch.log_softmax(logits, 1), uniform, reduction="batchmean")
        assert from_uniform(logits).item() == pytest.approx(expected.item())
        assert from_uniform(torch.zeros(2, 10)).item() == pytest.approx(0, abs=1e-6)

    def test_the_repulsion_is_a_mean_over_all_pairs(self) -> None:
        forget, retain = random_logits(3, 1).double(), random_logits(4, 2).double()
        terms = []
        for z_f in forget.numpy():
            weights = [math.exp(float(z_f @ z_r) / 1.7) for z_r in retain.numpy()]
            terms += [-math.log(weight / sum(weights)) for weight in weights]
        found = repulsion(forget, retain, 1.7)
        assert found.item() == pytest.approx(float(np.mean(terms)))

    def test_an_epoch_contrasts_until_a_set_ends_and_passes_over_the_other(
        self, problem: Problem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        method = prepared("fcs", problem, batch=128, forget_batch=16, schedule_epochs=2)
        steps: list[tuple[str, float]] = []
        step = ForgetContrastStrengthen.step

        def spy(self: ForgetContrastStrengthen, loss: Tensor, *, optimizer: Any = None) -> None:
            kinds = {id(self.uniform_stepper): "uniform", id(self.contrast_stepper): "contrast"}
            kind, stepper = kinds.get(id(optimizer), "retain"), optimizer or self.stepper
            steps.append((kind, stepper.param_groups[0]["lr"]))
            step(self, loss, optimizer=optimizer)

        monkeypatch.setattr(ForgetContrastStrengthen, "step", spy)
        method.epoch()
        method.epoch()
        forgets, retains = len(method.context.forget), len(method.context.retain)
        once, passes = math.ceil(forgets / 16), math.ceil(retains / 128)
        pairs = min(once, passes)
        kinds = [kind for kind, _ in steps]
        one = ["contrast"] * pairs + ["retain"] * passes
        assert kinds == ["uniform"] * once + one + one
        rates = [rate for kind, rate in steps if kind == "contrast"]
        turns = np.arange(2 * pairs) / (2 * pairs)
        expected = 1e-6 + (3e-4 - 1e-6) * np.cos(np.pi * turns / 2) ** 2
        np.testing.assert_allclose(rates, expected)


class TestCFW:
    def test_only_the_first_layer_is_disturbed_by_as_much_as_said(self, problem: Problem) -> None:
        method = prepared("cfw", problem, confuse=0.5)
        names = [name for name, count in changed(method).items() if count]
        (weight, _), *_ = matrices(method.model)
        assert [id(method.model.get_parameter(name)) for name in names] == [id(weight)]
        noise = weight - method.context.original.get_parameter(names[0])
        assert noise.std().item() == pytest.approx(0.5, rel=0.3)

    def test_noise_comes_again_before_the_last_epoch(
        self, problem: Problem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disturbed: list[tuple[int, float]] = []
        monkeypatch.setattr(
            ConfuseFinetuneWeaken,
            "disturb",
            lambda self, deviation: disturbed.append((self.epochs_done, deviation)),
        )
        method = prepared("cfw", problem, schedule_epochs=3)
        disturbed.clear()  # the first noise comes while preparing
        for _ in range(3):
            method.epoch()
        assert disturbed == [(2, 0.005)]

    def test_all_classes_weigh_the_same(self, problem: Problem) -> None:
        labels_N = torch.tensor([0] * 6 + [2] * 3 + [3])
        weights_K = balanced(labels_N, 4)
        expected = [10 / (3 * 6), 0, 10 / (3 * 3), 10 / 3]
        torch.testing.assert_close(weights_K, torch.tensor(expected))
        method = prepared("cfw", problem, confuse=0.0)
        method.set_mode()
        retain = method.context.retain
        log_probs = torch.log_softmax(deepcopy(method.model)(retain.batch(PLACES_B)), 1).double()
        labels_B = retain.labels(PLACES_B)
        counts = torch.bincount(retain.labels_N)
        terms = [
            -len(retain) / 9 / counts[label].item() * log_probs[place, label].item()
            for place, label in enumerate(labels_B.tolist())
        ]
        found = method.update(PLACES_B, PLACES_B)["loss"]
        assert found.item() == pytest.approx(float(np.mean(terms)), rel=1e-4)


class TestPRMQ:
    def test_the_smallest_weights_of_all_layers_are_drawn_again(self, problem: Problem) -> None:
        method = prepared("prmq", problem, share=0.4)
        layers = matrices(method.context.original)
        sizes = torch.cat([part.abs().flatten() for layer in layers for part in layer])  # type: ignore[union-attr]
        limit = sizes.sort().values[round(0.4 * len(sizes)) - 1]
        for (old, old_bias), (new, new_bias) in zip(layers, matrices(method.model), strict=True):
            pruned = old.abs() <= limit
            assert torch.equal(new[~pruned], old[~pruned])
            assert not torch.equal(new[pruned], old[pruned])
            assert new[pruned].abs().max() <= old[0].numel() ** -0.5
            assert old_bias is not None
            assert new_bias is not None
            assert torch.equal(new_bias, old_bias * (old_bias.abs() > limit))

    def test_the_loss_is_that_of_the_equation(self, problem: Problem) -> None:
        method = prepared("prmq", problem, share=0.1)
        assert isinstance(method, PruneReinitializeMatchQuantize)
        method.set_mode()
        retain = method.context.retain
        labels_B = retain.labels(PLACES_B)
        assert retain.labels_N is not None
        probs = torch.softmax(deepcopy(method.model)(retain.batch(PLACES_B)), 1).double().detach()
        weights = (torch.bincount(retain.labels_N).double() ** -0.1)[labels_B]
        own = probs[torch.arange(len(PLACES_B)), labels_B]
        labels = -(weights * own.log()).sum() / weights.sum()
        entropies = [
            torch.special.entr(each).sum(dim=1) for each in (probs, retain.probs(PLACES_B).double())
        ]
        match = (entropies[0] - entropies[1]).square().mean()
        found = method.update(PLACES_B, PLACES_B)
        assert found["loss_labels"].item() == pytest.approx(labels.item(), rel=1e-4)
        assert found["loss_match"].item() == pytest.approx(match.item(), rel=1e-4)
        assert found["loss"].item() == pytest.approx((labels + match).item(), rel=1e-4)

    def test_an_entropy_of_equal_chances_is_the_largest(self) -> None:
        found = entropy(torch.log_softmax(torch.zeros(1, 10), dim=1))
        assert found.item() == pytest.approx(math.log(10))

    def test_weights_are_float16_after_an_epoch(self, problem: Problem) -> None:
        method = prepared("prmq", problem, share=0.1)
        method.epoch()
        for weight in method.model.parameters():
            assert torch.equal(weight, weight.half().float())


class TestKDE:
    def test_both_ends_are_untrained(self, problem: Problem) -> None:
        method = prepared("kde", problem)
        touched = {name.rpartition(".")[0] for name, count in changed(method).items() if count}
        layers = [
            name
            for name, module in method.model.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear)
        ]
        assert touched == {layers[0], layers[-1]}

    @pytest.mark.parametrize("done", [0, 3])
    def test_the_gradient_is_that_of_the_authors_three_terms(
        self, problem: Problem, done: int
    ) -> None:
        method = prepared("kde", problem)
        assert isinstance(method, KnowledgeDistillationEntropy)
        method.epochs_done = done
        method.set_mode()
        model, retain = deepcopy(method.model), method.context.retain
        logits = model(retain.batch(PLACES_B))
        teacher = torch.softmax(retain.probs(PLACES_B).log() / 5, dim=1)
        student = torch.log_softmax(logits / 5, dim=1)
        divergence = F.kl_div(student, teacher, reduction="batchmean")
        soft = -(teacher * student).sum(dim=1).mean()
        labels = F.cross_entropy(logits, retain.labels(PLACES_B))
        loss = divergence if done < 3 else soft + labels + divergence
        expected = torch.autograd.grad(loss, list(model.parameters()))
        method.update(PLACES_B, PLACES_B)
        for weight, slope in zip(method.model.parameters(), expected, strict=True):
            torch.testing.assert_close(weight.grad, slope, rtol=1e-3, atol=1e-6)

    def test_the_second_phase_has_a_new_optimizer_and_a_falling_rate(
        self, problem: Problem
    ) -> None:
        method = prepared("kde", problem, warmup_epochs=1, schedule_epochs=3)
        steppers, rates = [], []
        for _ in range(3):
            method.epoch()
            steppers.append(method.stepper)
            rates.append(method.stepper.param_groups[0]["lr"])
        assert steppers[0] is not steppers[1] is steppers[2]
        assert rates == pytest.approx([9e-4, 1e-3, 5e-4])


class TestRNI:
    def test_an_epoch_changes_the_drawn_tensors_and_norms_only(
        self, batch_norm_problem: Problem
    ) -> None:
        method = prepared("rni", batch_norm_problem, tensors=2, schedule_epochs=9)
        before = {name: weight.clone() for name, weight in method.model.named_parameters()}
        method.epoch()
        norms = norm_weights(method.model)
        moved = [
            (name, id(weight) in norms)
            for name, weight in method.model.named_parameters()
            if not torch.equal(weight, before[name])
        ]
        assert len([name for name, norm in moved if not norm]) == 2
        assert {name for name, norm in moved if norm}

    def test_noise_is_added_to_a_share_of_the_drawn_from_the_second_epoch_on(
        self, problem: Problem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        method = prepared("rni", problem, tensors=4, schedule_epochs=4, fine_epochs=1)
        disturbed: list[int] = []
        trained: list[int] = []
        monkeypatch.setattr(
            RepeatedNoiseInjection, "disturb", lambda self, _: disturbed.append(self.epochs_done)
        )
        rates = []
        for _ in range(4):
            method.epoch()
            trained.append(sum(weight.requires_grad for weight in method.model.parameters()))
            rates.append(method.stepper.param_groups[0]["lr"])
        assert disturbed == [1, 1, 2, 2]  # int(0.7 · 4) of them
        assert trained == [4, 4, 4, len(list(method.model.parameters()))]
        assert rates == [2e-4, 2e-4, 2e-4, 1e-3]

    def test_it_starts_with_an_untrained_last_layer(self, problem: Problem) -> None:
        method = prepared("rni", problem)
        touched = {name.rpartition(".")[0] for name, count in changed(method).items() if count}
        assert touched == set(last_layer(method.model))
