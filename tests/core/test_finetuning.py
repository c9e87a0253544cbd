"""Variants of finetuning, and the two extremes: doing nothing, and gradient ascent."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mixunlearn.methods import METHODS
from mixunlearn.methods.cf_k import split
from mixunlearn.methods.l1_sparse import L1Sparse
from mixunlearn.models import build_model
from mixunlearn.problem import Problem

CPU = torch.device("cpu")
LAYERS = {"cnn": 5, "convnet": 4, "resnet18": 21}  # resnet18's: 18, and 3 shortcuts


def prepared(name: str, problem: Problem, **parameters: Any) -> Any:
    method = METHODS[name](**parameters)
    method.prepare(problem.context(CPU, 0))
    return method


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(method: Any, start: dict[str, torch.Tensor]) -> set[str]:
    """Return the names, cut to their first two parts, of the weights that differ from `start`."""
    now = method.model.state_dict()
    different = (name for name in now if not torch.equal(now[name], start[name]))
    return {".".join(name.split(".")[:2]) for name in different}


def test_the_original_stays_as_it_is(problem: Problem) -> None:
    method = prepared("original", problem)
    assert method.epoch() == {"loss": 0.0}
    assert not changed(method, state(method.context.original))


def test_ascent_climbs_the_cross_entropy_of_the_forget_set(problem: Problem) -> None:
    method = prepared("ascent", problem, lr=1e-4)
    forget_B = torch.arange(len(method.context.forget))
    labels_B = method.context.forget.labels(forget_B)

    def cross_entropy() -> torch.Tensor:
        return F.cross_entropy(method.model(method.context.forget.batch(forget_B)), labels_B)

    before = cross_entropy()
    assert method.update(forget_B, forget_B)["loss"].item() == pytest.approx(-before.item())
    assert cross_entropy() > before


class TestL1Sparse:
    def test_the_penalty_is_the_sum_of_all_absolute_weights(self, problem: Problem) -> None:
        method = prepared("l1_sparse", problem, gamma=0.01)
        batch = torch.arange(8)
        expected = sum(weight.detach().double().abs().sum() for weight in method.model.parameters())
        scalars = method.update(batch, batch)
        assert scalars["l1"].item() == pytest.approx(float(expected), rel=1e-5)
        penalty = (scalars["loss"] - scalars["loss_retain"]).item()
        assert penalty == pytest.approx(0.01 * float(expected), rel=1e-4)

    def test_it_decays_linearly_and_then_is_gone(self, problem: Problem) -> None:
        method = prepared("l1_sparse", problem, gamma=0.01, decay_epochs=4)
        gammas = []
        for _ in range(6):
            method.load_state_dict(method.state_dict())  # the count is part of the state
            scalars = method.epoch()
            gammas.append((scalars["loss"] - scalars["loss_retain"]) / scalars["l1"])
        assert gammas == pytest.approx([0.01, 0.0075, 0.005, 0.0025, 0, 0], rel=0.02, abs=1e-6)

    def test_without_a_penalty_it_is_finetuning(self, problem: Problem) -> None:
        method: L1Sparse = prepared("l1_sparse", problem, gamma=0.0)
        assert method.epoch()["loss"] == prepared("finetune", problem).epoch()["loss"]


class TestLastLayers:
    @pytest.mark.parametrize("name", LAYERS)
    def test_each_layer_is_one_more(self, name: str) -> None:
        model = build_model(name, image_shape=(1, 8, 8), classes=10, seed=0, width=4)
        trained = [len(split(model, k)[1]) for k in range(1, LAYERS[name] + 1)]
        assert trained[0] == 1
        assert trained == sorted(set(trained))
        assert len(split(model, LAYERS[name] + 1)[1]) == trained[-1], "there are no more"

    @pytest.mark.parametrize("name", ["cf_k", "eu_k"])
    @pytest.mark.parametrize(
        ("k", "trained"),
        [
            (1, {"head.1"}),
            (2, {"head.1", "stages.block3"}),
            (99, {"head.1", "stages.block1", "stages.block2", "stages.block3"}),
        ],
    )
    def test_all_before_them_stays_with_its_statistics(
        self, name: str, k: int, trained: set[str], batch_norm_problem: Problem
    ) -> None:
        method = prepared(name, batch_norm_problem, k=k, lr=1e-2)
        start = state(method.context.original)
        for _ in range(2):
            method.epoch()
            method.model.eval()  # as an evaluation does
        assert changed(method, start) == trained

    def test_frozen_layers_compute_what_the_original_computes(
        self, batch_norm_problem: Problem
    ) -> None:
        method = prepared("cf_k", batch_norm_problem, k=1, lr=1e-2)
        method.epoch()
        images = method.context.retain.batch(torch.arange(8))
        _, found = method.model.forward_with_features(images, ["block3"])
        _, expected = method.context.original.forward_with_features(images, ["block3"])
        torch.testing.assert_close(found["block3"], expected["block3"])

    def test_all_of_them_are_finetuning_and_retraining(self, problem: Problem) -> None:
        for some, whole in (("cf_k", "finetune"), ("eu_k", "retrain")):
            assert prepared(some, problem, k=99).epoch() == prepared(whole, problem).epoch()

    def test_retrained_layers_begin_untrained(self, problem: Problem) -> None:
        methods = prepared("eu_k", problem, k=2), prepared("retrain", problem)
        found, untrained = (state(method.model) for method in methods)
        original = state(methods[0].context.original)
        for name, value in found.items():
            expected = untrained if name.startswith(("head.3", "head.5")) else original
            assert torch.equal(value, expected[name])
