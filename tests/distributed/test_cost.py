"""What a request costs beside retraining, from a few real steps."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from distributed.requests.cost import Cost, spoken, time_cost
from mixunlearn.methods.finetune import Finetune
from mixunlearn.problem import Problem
from mixunlearn.recipes import Recipe
from mixunlearn.timing import BATCHES
from mixunlearn.training import Training
from mixunlearn.trial import Trial
from tests.problems import make_reference_store

CPU = torch.device("cpu")


def test_the_sentence_says_when_retraining_is_cheaper() -> None:
    cheap = Cost(unlearning_s=3.0, retraining_s=12.0, known_from="timed")
    assert cheap.sentence == (
        "unlearning takes about 3.0 s, retraining once about 12 s: 0.25 of that (timed)"
    )
    dear = Cost(unlearning_s=300.0, retraining_s=12.0, known_from="timed", verifying=3)
    assert dear.sentence == (
        "retraining is cheaper, and leaves nothing behind: about 12 s; unlearning takes about "
        "5 min, 25.0 times as long; --verify trains 3 models more: about 36 s (timed)"
    )
    assert (cheap.cheaper, dear.cheaper) == (False, True)
    assert [spoken(value) for value in (0.04, 9.5, 119.0, 120.0)] == [
        "0.0 s",
        "9.5 s",
        "119 s",
        "2 min",
    ]


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    store = make_reference_store(tmp_path_factory.mktemp("store"), epochs=1, references=1)
    return store.problem(with_labels=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only steps move: 1 s each; what it shows is the first item."""
    shown = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: shown[0])
    return shown


def counting(work: Callable[..., Any], clock: list[float]) -> Callable[..., Any]:
    def counted(*args: Any) -> Any:
        clock[0] += 1
        return work(*args)

    return counted


def test_a_few_steps_are_scaled_to_all_of_them(
    problem: Problem, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Training, "step", counting(Training.step, clock))
    monkeypatch.setattr(Finetune, "update", counting(Finetune.update, clock))
    recipe = Recipe(epochs=5, batch=8)
    found = time_cost(problem, "finetune", {"batch": 8}, 3, recipe, CPU)
    retained = len(problem.retain.samples.ids_N)
    assert retained > 8 * BATCHES
    assert found.unlearning_s == pytest.approx(3 * retained / 8)
    assert found.retraining_s == pytest.approx(5 * retained / 8)
    assert found.ratio == pytest.approx(0.6)


@pytest.mark.parametrize("method", ["ascent", "mixunlearn", "fisher"])
def test_methods_of_all_kinds_can_be_timed(problem: Problem, method: str) -> None:
    found = time_cost(problem, method, {}, 1, Recipe(epochs=1), CPU)
    assert found.unlearning_s > 0
    assert found.retraining_s > 0


def test_the_time_is_about_that_of_the_real_thing(problem: Problem) -> None:
    found = time_cost(problem, "finetune", {}, 4, Recipe(epochs=1), CPU)
    trial = Trial(problem, "finetune", {}, 0, CPU)
    for _ in range(4):
        trial.unlearn()
    assert 0.1 < found.unlearning_s / trial.seconds < 10
