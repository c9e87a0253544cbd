"""The checks for authors of methods: a correct method passes, each fault fails."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from mixunlearn.methods import Context, Method
from mixunlearn.problem import Problem
from mixunlearn.testing import check_labels, check_method, check_seeds

STRONG = {"lr": 1e-3, "weight": 0.5}


@dataclass(kw_only=True)
class Sound(Method):
    """Minimise `CE(D_r) − weight·CE(D_f)`."""

    needs_labels: ClassVar[bool] = True

    weight: float = 0.2
    epochs: int = field(default=0, init=False)

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        retain = self.cross_entropy(self.context.retain, retain_B)
        loss = retain - self.weight * self.cross_entropy(self.context.forget, forget_B)
        self.step(loss)
        return {"loss": loss.detach()}


class Nameless(Sound):
    def epoch(self) -> dict[str, float]:
        return {"cost": super().epoch()["loss"]}


class Changing(Sound):
    def epoch(self) -> dict[str, float]:
        self.epochs += 1
        return super().epoch() | {f"epoch_{self.epochs}": 1.0}


class Infinite(Sound):
    def epoch(self) -> dict[str, float]:
        return super().epoch() | {"loss_forget": float("inf")}


class Global(Sound):
    def epoch(self) -> dict[str, float]:
        return super().epoch() | {"noise": torch.rand(()).item()}


class GlobalWeights(Sound):
    def epoch(self) -> dict[str, float]:
        scalars = super().epoch()
        shift(self.model, torch.rand(()).item())
        return scalars


class Seedless(Sound):
    def prepare(self, context: Context) -> None:
        super().prepare(context)
        self.rng = np.random.default_rng(0)


class Forgetting(Sound):
    def epoch(self) -> dict[str, float]:
        self.epochs += 1
        return super().epoch() | {"epochs": float(self.epochs)}


class ForgettingWeights(Sound):
    def epoch(self) -> dict[str, float]:
        scalars = super().epoch()
        shift(self.model, 0.1 * self.epochs)
        self.epochs += 1
        return scalars


class Spoiling(Sound):
    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        shift(self.context.original, 1e-3)
        return super().update(forget_B, retain_B)


class Thawing(Sound):
    def epoch(self) -> dict[str, float]:
        self.context.original.requires_grad_(True)
        return super().epoch()


class Idle(Sound):
    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        return {"loss": self.cross_entropy(self.context.retain, retain_B).detach()}


@dataclass(kw_only=True)
class Undeclared(Method):
    """Does not say whether it needs labels."""

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        loss = -self.cross_entropy(self.context.forget, forget_B)
        self.step(loss)
        return {"loss": loss.detach()}


class Claiming(Sound):
    """Says that it does not need labels."""

    needs_labels = False


class Modest(Sound):
    """Says that it needs labels, but does not use any."""

    def update(self, forget_B: Tensor, retain_B: Tensor) -> dict[str, Tensor]:
        forget, retain = self.logits(forget_B, retain_B)
        loss = torch.logsumexp(forget, 1).mean() - retain.amax(1).mean()
        self.step(loss + 10 * forget.square().mean())
        return {"loss": loss.detach()}


class Blind(Modest):
    """Does not need labels, and has no loss without them."""

    needs_labels = False

    def epoch(self) -> dict[str, float]:
        scalars = super().epoch()
        known = self.context.forget.labels_N is not None
        return scalars if known else {"loss": float("nan")}


class Hungry(Sound):
    def epoch(self) -> dict[str, float]:
        scalars = super().epoch()
        return scalars if len(self.context.forget) > 10 else {"loss": float("nan")}


def shift(module: torch.nn.Module, amount: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount)


def test_a_sound_method_keeps_the_contract(problem: Problem) -> None:
    check_method(Sound, problem, STRONG)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Nameless, "an epoch returns no `loss`, but cost"),
        (Changing, "the first epoch returns epoch_1, loss, the second epoch_2, loss"),
        (Infinite, "loss_forget = inf is not finite"),
        (Global, "the same seed gives different scalars"),
        (GlobalWeights, "the same seed gives different weights"),
        (Seedless, "another seed gives the same scalars"),
        (Forgetting, "a restored state gives different scalars"),
        (ForgettingWeights, "a restored state gives different weights"),
        (Spoiling, "context.original is changed"),
        (Thawing, "context.original requires gradients"),
        (Idle, "it must fall by 50"),
        (Claiming, "declares needs_labels = False, but asks for labels"),
        (Modest, "declares needs_labels = True, but works without labels"),
        (Blind, "its loss is not finite without labels"),
        (Hungry, "its loss is nan on 3 forget images"),
    ],
)
def test_each_fault_is_named(problem: Problem, fault: type[Method], message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_method(fault, problem, STRONG)
    assert str(caught.value).startswith(f"{fault.__name__}: ")
    assert message in str(caught.value)


def test_a_method_that_does_not_say_whether_it_needs_labels_is_named(problem: Problem) -> None:
    with pytest.raises(AssertionError, match="Undeclared: does not declare needs_labels"):
        check_labels(Undeclared, problem)


def test_a_random_method_that_says_it_is_not_is_named(problem: Problem) -> None:
    with pytest.raises(AssertionError, match="pass random=True"):
        check_seeds(Sound, problem, random=False)
