"""What unlearning costs, beside a retraining."""

import pytest
import torch

from mixunlearn.effort import Effort, Retraining, most_at_once
from mixunlearn.passes import Passes
from mixunlearn.problem import Problem
from mixunlearn.recipes import Recipe
from mixunlearn.timing import retraining_seconds


@pytest.mark.parametrize(
    ("effort", "references", "ratio"),
    [
        (Effort(seconds=2.0), Retraining(seconds=[3.0, 5.0]), 0.5),
        (Effort(seconds=2.0, at_once=2), Retraining(seconds=[4.0]), None),
        (Effort(seconds=2.0), Retraining(seconds=[4.0], at_once=2), None),
        (Effort(seconds=2.0, at_once=2), Retraining(seconds=[4.0], at_once=2), None),
        (Effort(seconds=2.0), Retraining(seconds=[4.0], at_once=None), None),
        (Effort(seconds=2.0), Retraining(seconds=[]), None),
        (Effort(seconds=2.0, retraining_s=8.0), Retraining(seconds=[4.0], at_once=2), 0.25),
        (Effort(seconds=2.0, at_once=2, retraining_s=8.0), Retraining(seconds=[4.0]), None),
    ],
)
def test_times_are_divided_only_if_both_were_measured_alone(
    effort: Effort, references: Retraining, ratio: float | None
) -> None:
    found = references.compare(effort)
    assert found.get("time/ratio_to_retrain") == ratio
    assert found["time/unlearn_s"] == 2.0
    assert found["time/at_once"] == effort.at_once


def test_images_are_always_divided() -> None:
    effort = Effort(seconds=1.0, at_once=4, passes=Passes(forward=500, backward=200))
    found = Retraining(seconds=[1.0], at_once=8, images=1000).compare(effort)
    # A pass back costs two forward: 900 of the 3,000 of a retraining.
    assert found["cost/ratio_to_retrain"] == pytest.approx(0.3)
    assert (found["cost/images_forward"], found["cost/images_backward"]) == (500, 200)
    unknown = Retraining(seconds=[1.0]).compare(effort)
    assert "cost/ratio_to_retrain" not in unknown


@pytest.mark.parametrize(
    ("numbers", "most"), [([1, 1], 1), ([1, 4], 4), ([1, None], None), ([], 1)]
)
def test_the_mark_of_several_is_the_largest(numbers: list[int | None], most: int | None) -> None:
    assert most_at_once(numbers) == most


def test_a_retraining_is_timed_by_a_few_steps_of_it(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixunlearn.timing.seconds_of", lambda work: (work(), 0.5)[1])
    recipe = Recipe(epochs=4, batch=16)
    images = len(problem.retain.samples.ids_N)
    found = retraining_seconds(problem, recipe, torch.device("cpu"), least_s=1.0)
    assert found == pytest.approx(0.5 * 4 * images / (8 * 16))
