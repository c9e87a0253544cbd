"""Baselines move every metric in the direction that their papers report, on one small task.

The task is to forget a digit. The papers report: with NegGrad the retained classes suffer (58.5 %
where retraining has 86.8, CIFAR-10, arXiv 2502.10288, class-level); finetuning hardly forgets,
SCRUB forgets and harms nothing (arXiv 2302.09880, figure 1); SSD does so without a step of training
(arXiv 2308.07707); random labels forget at a small cost, and SalUn at no higher cost, although it
changes only a part of the weights (arXiv 2310.12508).
"""

from typing import Any, NamedTuple

import pytest
import torch

from mixunlearn.methods import METHODS, Method
from mixunlearn.problem import Problem


class Direction(NamedTuple):
    """The effect of a configuration; metrics in percent.

    Args:
        method, parameters, epochs: the configuration.
        forget: lowest and highest accepted accuracy on D_f afterwards.
        harm: smallest and largest accepted loss of accuracy on D_r.
    """

    method: str
    parameters: dict[str, Any]
    epochs: int
    forget: tuple[float, float]
    harm: tuple[float, float]


DIRECTIONS = [
    Direction("finetune", {"lr": 1e-4}, 3, forget=(95, 100), harm=(-2, 2)),
    Direction("neggrad", {"lr": 1e-3, "beta": 0.5}, 3, forget=(0, 5), harm=(20, 100)),
    Direction("random_label", {"lr": 1e-3}, 3, forget=(0, 5), harm=(-2, 6)),
    Direction("scrub", {"lr": 1e-3, "msteps": 2}, 4, forget=(0, 5), harm=(-3, 2)),
    Direction(
        "ssd",
        {"alpha": 3.0, "dampening": 0.5, "importance_batch": 1},
        1,
        forget=(0, 5),
        harm=(-2, 6),
    ),
    Direction("salun", {"lr": 1e-3, "fraction": 0.5}, 3, forget=(0, 5), harm=(-2, 6)),
]


def unlearned(direction: Direction, problem: Problem) -> Method:
    method = METHODS[direction.method](**direction.parameters)
    method.prepare(problem.context(torch.device("cpu"), 0))
    for _ in range(direction.epochs):
        method.epoch()
    return method


@pytest.mark.parametrize("direction", DIRECTIONS, ids=lambda direction: direction.method)
def test_metrics_move_as_the_papers_say(direction: Direction, problem: Problem) -> None:
    method = unlearned(direction, problem)
    before = problem.evaluator.images.evaluate(method.context.original).metrics
    after = problem.evaluator.images.evaluate(method.model).metrics
    least, most = direction.forget
    assert least <= after["acc/train_forget"] <= most
    assert least <= after["acc/val_forget"] <= most  # also images of the class that it never saw
    for name in ("acc/train_retain", "acc/val_retain"):
        least, most = direction.harm
        assert least <= before[name] - after[name] <= most, name


def test_salun_leaves_the_weights_that_are_not_salient(problem: Problem) -> None:
    method = unlearned(DIRECTIONS[-1], problem)
    pairs = zip(method.model.parameters(), method.context.original.parameters(), strict=True)
    moved = torch.cat([(new != old).flatten() for new, old in pairs]).double().mean().item()
    assert 0.4 < moved <= 0.5
