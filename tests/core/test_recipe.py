"""How near a recipe comes to a model that was trained elsewhere."""

import numpy as np
import pytest
from scipy import stats

from mixunlearn.evidence.recipe import Nearness, compare


def near(own: float, *values: float, margin: float = 1.0) -> Nearness:
    return Nearness(metric="acc/test", own=own, values=values, margin=margin)


def test_the_interval_is_that_of_one_more_original() -> None:
    values = [90.0, 93.0, 91.5, 92.0]
    low, high = stats.t.interval(
        0.95, 3, np.mean(values), np.std(values, ddof=1) * np.sqrt(1 + 1 / 4)
    )
    found = near(95.0, *values).as_plain()
    assert found["interval"] == pytest.approx([low, high])
    assert found["recipe"]["n"] == 4
    assert found["near"] is True
    assert near(float(high) + 0.1, *values).near is False
    assert near(float(low) - 0.1, *values).near is False


def test_a_difference_within_the_margin_is_none_even_if_the_recipe_does_not_vary() -> None:
    assert near(100.9, 100.0, 100.0, 100.0).near is True
    assert near(101.1, 100.0, 100.0, 100.0).near is False


def test_a_single_original_allows_two_margins_and_none_says_nothing() -> None:
    assert near(91.9, 90.0).near is True
    assert near(92.1, 90.0).near is False
    nothing = near(92.1).as_plain()
    assert nothing["near"] is None
    assert nothing["interval"] is None
    assert nothing["difference"] is None


def test_only_what_was_measured_is_compared() -> None:
    margins = {"acc/test": 1.0, "mia/asr": 2.0}
    (found,) = compare({"acc/test": 90.0}, [{"acc/test": 91.0}], margins)
    assert (found.metric, found.difference) == ("acc/test", -1.0)
