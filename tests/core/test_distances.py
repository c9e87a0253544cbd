"""Distances, p-values and groups, against known answers and by simulation."""

import math

import numpy as np
import pytest

from benchmarks.told_apart import Problem, rates
from mixunlearn.metrics.distances import Unlearned, differences, distance_of
from mixunlearn.metrics.groups import holm, letters

FIVE = [90.0, 91.0, 89.0, 90.5, 89.5]


def method(values: list[float], forget: str = "A", originals: list[int] | None = None) -> Unlearned:
    known = range(len(values)) if originals is None else originals
    return Unlearned(forget=forget, originals=[*known], values_OM=np.array(values)[:, None])


def references(values: list[float]) -> np.ndarray:
    return np.array(values)[:, None]


def test_holm_corrects_as_published() -> None:
    # Holm's own example of the procedure: Bonferroni's factor falls with each rejection.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, math.nan, 0.8])[0] == 1.0
    assert math.isnan(holm([0.9, math.nan, 0.8])[1])
    assert holm([]) == []


def test_letters_are_those_of_a_compact_display() -> None:
    # Piepho's condition: two share a letter if and only if they are not told apart.
    apart = [("one", "three"), ("one", "four"), ("two", "four")]
    names = ["one", "two", "three", "four"]
    assert letters(names, apart) == {"one": "a", "two": "ab", "three": "bc", "four": "c"}
    assert letters(names, []) == dict.fromkeys(names, "a")
    assert letters(["x", "y"], [("x", "y")]) == {"x": "a", "y": "b"}
    assert letters([], []) == {}


def test_the_distance_is_that_of_means_not_of_runs() -> None:
    found = distance_of([method([88.0, 92.0, 88.0, 92.0, 90.0])], {"A": references(FIVE)})
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.low == 0 < found.high
    biased = distance_of([method([value + 3 for value in FIVE])], {"A": references(FIVE)})
    assert biased.value == pytest.approx(3)
    assert 0 < biased.low < 3 < biased.high


def test_biases_of_two_searches_do_not_cancel() -> None:
    two = [method([value + 3 for value in FIVE]), method([value - 3 for value in FIVE])]
    assert distance_of(two, {"A": references(FIVE)}).value == pytest.approx(3)


def test_fewer_than_five_units_give_no_p() -> None:
    few = {"a": [method(FIVE[:4])], "b": [method([70.0] * 4)]}
    (found,) = differences(few, {"A": references(FIVE)})
    assert math.isnan(found.p)
    assert not found.apart
    enough = {"a": [method(FIVE)], "b": [method([70.0, 70.5, 69.5, 70.1, 69.9])]}
    (unsure,) = differences(enough, {"A": references(FIVE[:3])})
    assert math.isnan(unsure.p)
    (sure,) = differences(enough, {"A": references(FIVE)})
    assert sure.apart
    assert sure.value == pytest.approx(-20)
    assert math.isnan(distance_of(few["a"], {"A": references(FIVE)}).low)


def test_methods_are_paired_by_original_not_by_position() -> None:
    own = [81.0, 85.0, 89.0, 93.0, 97.0, 101.0]
    first = method(own)
    # One point worse from each original, given in another order and without one of them.
    second = method([value - 1 for value in own[:0:-1]], originals=[5, 4, 3, 2, 1])
    (found,) = differences(
        {"a": [first], "b": [second]}, {"A": references([70.0 + i for i in range(5)])}
    )
    assert found.value == pytest.approx(1)  # 93 − 72 against 92 − 72
    assert found.p < 1e-6  # unpaired, a spread of 6 would hide it


def test_methods_without_a_common_original_are_not_compared() -> None:
    apart = {"a": [method(FIVE)], "b": [method(FIVE, originals=[5, 6, 7, 8, 9])]}
    (found,) = differences(apart, {"A": references(FIVE)})
    assert math.isnan(found.value)
    assert math.isnan(found.p)


def test_equal_methods_are_rarely_told_apart_and_better_ones_often() -> None:
    quiet = rates(Problem(), better=0.0, resamples=200, seed=1)
    assert quiet <= 0.05
    assert rates(Problem(), better=4.0, resamples=60, seed=2) > 0.8
