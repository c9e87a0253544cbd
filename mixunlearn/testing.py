"""The contract of unlearning methods, for the tests of new methods.

    from mixunlearn.testing import check_method

    def test_my_method_keeps_the_contract():
        check_method(MyMethod, problem, {"lr": 1e-3})

`check_method` checks every clause; each clause is also a function that can be called alone. They
raise `AssertionError` with a message that names the method and says what is wrong. Use a small
problem: methods are prepared seven times and run for a few epochs. Whoever calls several clauses
alone gives them the same `Runs`, and each run that they share is made once.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from mixunlearn.inference import predict
from mixunlearn.methods.base import Method
from mixunlearn.metrics.accuracy import accuracy
from mixunlearn.models import StagedModel
from mixunlearn.problem import Problem, TaughtImages

CPU = torch.device("cpu")
EPOCHS = 3
FEW = 3  # forget images, fewer than in any batch


class Runs:
    """The runs of a method that several clauses look at, each made when it is first needed.

    Args:
        method: the class.
        problem: the problem to run it on.
    """

    def __init__(self, method: type[Method], problem: Problem) -> None:
        self.method, self.problem = method, problem
        self.scalars: list[dict[str, float]] = []
        self.weights: list[dict[str, torch.Tensor]] = []
        self.original: dict[str, torch.Tensor] = {}  # the original's weights before `whole` ran

    @cached_property
    def whole(self) -> Method:
        """A run with the default hyperparameters and the first seed, never interrupted."""
        ready = _prepared(self.method, self.problem)
        self.original = _weights(ready.context.original)
        return ready

    @cached_property
    def same(self) -> tuple[Method, dict[str, float]]:
        """One epoch with the same seed as `whole`."""
        again = _prepared(self.method, self.problem)
        return again, again.epoch()

    def epochs(self, count: int) -> list[dict[str, float]]:
        """Return what the first `count` epochs of `whole` return."""
        while len(self.scalars) < count:
            self.scalars.append(self.whole.epoch())
            self.weights.append(_weights(self.whole.model))
        return self.scalars[:count]


def check_method(
    method: type[Method],
    problem: Problem,
    strong: Mapping[str, Any] | None = None,
    *,
    random: bool = True,
    drop: float = 50.0,
) -> None:
    """Check the whole contract.

    Args:
        method: the class.
        problem: with labels; it must be a class task if the method can only forget whole classes.
        strong: hyperparameters that forget something within three epochs; the others have their
            defaults.
        random: whether different seeds give different numbers.
        drop: percentage points of accuracy on the forget set that must be lost; `check_forgets`.

    Raises:
        AssertionError: the method breaks a clause of the contract.
    """
    runs = Runs(method, problem)
    check_scalars(method, problem, runs)
    check_seeds(method, problem, runs, random=random)
    check_resume(method, problem, runs)
    check_original(method, problem, runs)
    check_forgets(method, problem, strong, drop=drop)
    check_labels(method, problem)
    check_few(method, problem)


def check_scalars(method: type[Method], problem: Problem, runs: Runs | None = None) -> None:
    """Check that each epoch returns finite numbers with the same names, including `loss`.

    Raises:
        AssertionError: it does not.
    """
    first, second = (runs or Runs(method, problem)).epochs(2)
    _require(method, "loss" in first, f"an epoch returns no `loss`, but {_names(first)}")
    changed = f"the first epoch returns {_names(first)}, the second {_names(second)}"
    _require(method, first.keys() == second.keys(), changed)
    for scalars in (first, second):
        for name, value in scalars.items():
            _require(method, math.isfinite(value), f"{name} = {value} is not finite")


def check_seeds(
    method: type[Method], problem: Problem, runs: Runs | None = None, *, random: bool = True
) -> None:
    """Check that equal seeds give equal numbers and weights, and different seeds different ones.

    Args:
        method: the class.
        problem: the problem to run it on.
        runs: runs of this method on this problem that other clauses share.
        random: whether the method makes any random choice.

    Raises:
        AssertionError: numbers differ that must be equal, or are equal that must differ.
    """
    runs = runs or Runs(method, problem)
    (first,) = runs.epochs(1)
    again, same = runs.same
    other = _prepared(method, problem, seed=1).epoch()
    drawn = "the same seed gives different {}: draw from self.rng, never from a global generator"
    _require(method, first == same, drawn.format("scalars"))
    _require(method, _same(runs.weights[0], _weights(again.model)), drawn.format("weights"))
    if random:
        fixed = "another seed gives the same scalars: draw from self.rng, or pass random=False"
        _require(method, first != other, fixed)
    else:
        _require(method, first == other, "another seed gives different scalars: pass random=True")


def check_resume(method: type[Method], problem: Problem, runs: Runs | None = None) -> None:
    """Check that a method continues unchanged after its state was saved and loaded.

    Raises:
        AssertionError: its next epoch gives different numbers or weights.
        TypeError: the random state is not plain data.
    """
    runs = runs or Runs(method, problem)
    before, _ = runs.same
    # Prepared separately, as in a new worker: nothing but the state is carried over.
    after = _prepared(method, problem)
    after.load_state_dict(_through_json(before.state_dict()))
    _, second = runs.epochs(2)
    lost = "a restored state gives different {}: an epoch changes what parts() or state_dict() lack"
    _require(method, after.epoch() == second, lost.format("scalars in the next epoch"))
    same = _same(runs.weights[1], _weights(after.model))
    _require(method, same, lost.format("weights after the next epoch"))


def check_original(method: type[Method], problem: Problem, runs: Runs | None = None) -> None:
    """Check that the original model is never changed, and stays frozen.

    Raises:
        AssertionError: it is changed, or requires gradients.
    """
    runs = runs or Runs(method, problem)
    runs.epochs(1)
    original = runs.whole.context.original
    same = _same(runs.original, _weights(original))
    _require(method, same, "context.original is changed: copy it")
    thawed = any(parameter.requires_grad for parameter in original.parameters())
    _require(method, not thawed, "context.original requires gradients: copy it")


def check_forgets(
    method: type[Method],
    problem: Problem,
    strong: Mapping[str, Any] | None = None,
    *,
    drop: float = 50.0,
) -> None:
    """Check that three epochs forget.

    Args:
        method: the class.
        problem: the problem to run it on.
        strong: hyperparameters that forget something within three epochs.
        drop: percentage points of accuracy on the forget set that must be lost; 0 for a baseline
            that must only not learn more.

    Raises:
        AssertionError: the method forgets less.
    """
    ready = _prepared(method, problem, hyperparameters=strong)
    before = _forget_accuracy(ready.context.original, problem)
    for _ in range(EPOCHS):
        ready.epoch()
    after = _forget_accuracy(ready.model, problem)
    found = f"accuracy on the forget set was {before:.1f} %, after {EPOCHS} epochs {after:.1f} %"
    _require(method, after <= before - drop, f"{found}; it must fall by {drop:g}")


def check_labels(method: type[Method], problem: Problem) -> None:
    """Check that a method works without labels, or declares that it needs them.

    Raises:
        AssertionError: `needs_labels` is wrong.
    """
    _require(method, hasattr(method, "needs_labels"), "does not declare needs_labels")
    try:
        scalars = _prepared(method, replace(problem, with_labels=False)).epoch()
    except AssertionError as error:  # raised by Samples when a method asks for labels
        if not method.needs_labels:
            asked = "declares needs_labels = False, but asks for labels"
            raise AssertionError(f"{method.__name__}: {asked}") from error
        return
    never = "declares needs_labels = True, but works without labels"
    _require(method, not method.needs_labels, never)
    _require(method, math.isfinite(scalars["loss"]), "its loss is not finite without labels")


def check_few(method: type[Method], problem: Problem) -> None:
    """Check that a forget set smaller than a batch works.

    Args:
        method: the class.
        problem: only its first three forget images are used.

    Raises:
        AssertionError: the loss of an epoch is not finite.
    """
    few = replace(problem, forget=first(problem.forget, FEW))
    loss = _prepared(method, few).epoch()["loss"]
    _require(method, math.isfinite(loss), f"its loss is {loss} on {FEW} forget images")


def _prepared(
    method: type[Method],
    problem: Problem,
    seed: int = 0,
    hyperparameters: Mapping[str, Any] | None = None,
) -> Method:
    ready = method(**(hyperparameters or {}))
    ready.prepare(problem.context(CPU, seed))
    return ready


def first(images: TaughtImages, count: int) -> TaughtImages:
    """Return the first `count` images."""
    return replace(
        images,
        samples=replace(images.samples, ids_N=images.samples.ids_N[:count]),
        known_N=images.known_N[:count],
        probs_NK=images.probs_NK[:count],
        features={stage: found[:count] for stage, found in images.features.items()},
    )


def _forget_accuracy(model: StagedModel, problem: Problem) -> float:
    samples = problem.forget.samples
    probs_NK, _ = predict(model, torch.from_numpy(samples.images_NCHW.copy()))
    return accuracy(probs_NK.numpy(), samples.labels_N)


def _weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def _same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def _through_json(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state whose plain part was converted to JSON and back, as in a checkpoint."""
    return {**state, "rng": json.loads(json.dumps(state["rng"]))}


def _names(scalars: Mapping[str, float]) -> str:
    return ", ".join(sorted(scalars)) or "nothing"


def _require(method: type[Method], condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(f"{method.__name__}: {message}")
