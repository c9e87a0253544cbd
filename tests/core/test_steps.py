"""The optimizers that all methods with steps offer, against their formulas."""

import warnings
from copy import deepcopy
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch

from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS, Context
from mixunlearn.methods.base import OneStep
from mixunlearn.methods.finetune import Finetune
from mixunlearn.problem import Problem
from mixunlearn.trial import Unlearning

CPU = torch.device("cpu")
STEPPING = [
    name for name in METHODS if "weight_decay" in {field.name for field in fields(METHODS[name])}
]


def prepared(problem: Problem, **parameters: Any) -> Finetune:
    method = Finetune(**parameters)
    method.prepare(problem.context(CPU, 0))
    return method


def test_sgd_has_momentum_and_weight_decay(problem: Problem) -> None:
    method = prepared(problem, optimizer="sgd", lr=0.05, weight_decay=0.01)
    model = deepcopy(method.model)
    moments = [torch.zeros_like(weight) for weight in model.parameters()]
    for start in (0, 8, 16):
        retain_B = torch.arange(start, start + 8)
        logits = model(method.context.retain.batch(retain_B))
        loss = -torch.log_softmax(logits, 1)[range(8), method.context.retain.labels(retain_B)]
        slopes = torch.autograd.grad(loss.mean(), list(model.parameters()))
        with torch.no_grad():
            for weight, moment, slope in zip(model.parameters(), moments, slopes, strict=True):
                moment.mul_(0.9).add_(slope + 0.01 * weight)
                weight.sub_(0.05 * moment)
        method.update(retain_B, retain_B)
    for weight, expected in zip(method.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-6)


def test_weight_decay_is_part_of_adams_gradient(problem: Problem) -> None:
    method = prepared(problem, lr=1e-3, weight_decay=0.3)
    model, indices_B = deepcopy(method.model), torch.arange(8)
    squares = torch.stack([weight.square().sum() for weight in model.parameters()]).sum()
    logits = model(method.context.retain.batch(indices_B))
    loss = torch.nn.functional.cross_entropy(logits, method.context.retain.labels(indices_B))
    slopes = torch.autograd.grad(loss + 0.3 / 2 * squares, list(model.parameters()))
    method.update(indices_B, indices_B)
    for weight, before, slope in zip(
        method.model.parameters(), model.parameters(), slopes, strict=True
    ):
        # The first step of Adam: the gradient divided by its own size.
        expected = before - 1e-3 * slope / (slope.abs() + 1e-8)
        large = slope.abs() > 1e-6
        torch.testing.assert_close(weight[large], expected[large], rtol=1e-4, atol=1e-6)


def test_an_unknown_optimizer_is_refused(problem: Problem) -> None:
    with pytest.raises(InputError, match=r"optimizer = 'adagrad': must be adam or sgd"):
        prepared(problem, optimizer="adagrad")


@pytest.mark.parametrize("name", STEPPING)
def test_all_methods_with_steps_can_use_sgd(problem: Problem, name: str) -> None:
    parameters: dict[str, Any] = {"weight_decay": 1e-4}
    if name != "msg":
        parameters["optimizer"] = "sgd"
    method = METHODS[name](**parameters)
    method.prepare(problem.context(CPU, 0))
    decays = {group["weight_decay"] for group in method.stepper.param_groups}
    assert isinstance(method.stepper, torch.optim.SGD)
    assert decays == {1e-4}


def test_methods_of_one_step_have_no_optimizer() -> None:
    others = set(METHODS) - set(STEPPING)
    assert others - {"unroll"} == {n for n in METHODS if issubclass(METHODS[n], OneStep)}


def test_a_method_of_an_earlier_version_keeps_its_optimizer(problem: Problem) -> None:
    @dataclass(kw_only=True)
    class Old(Finetune):
        def prepare(self, context: Context) -> None:
            super().prepare(context)
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)  # type: ignore[assignment]

    old = Old()
    with pytest.warns(DeprecationWarning, match="Old sets self.optimizer in prepare; set self.st"):
        Unlearning(old, problem.context(CPU, 0))
    assert isinstance(old.stepper, torch.optim.SGD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Unlearning(Finetune(), problem.context(CPU, 0))
