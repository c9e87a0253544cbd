"""The predicted bias of the next request: against SciPy, and how often its interval is right."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from mixunlearn.errors import InputError
from mixunlearn.evidence.prediction import (
    NONE,
    NOT_WITHIN,
    STATES,
    WITHIN,
    PredictedBias,
    predict,
    predict_from,
    predicted_bias,
)

Draw = Callable[[np.random.Generator, tuple[int, int]], npt.NDArray[np.float64]]
FIVE = [0.3, -0.4, 0.1, 0.9, -0.2]
REPEATS = 2000


def only(differences: list[float], margin: float = 2.0, step: float = 0.0) -> PredictedBias:
    return predicted_bias("m", differences, margin, step)


def test_the_interval_is_student_s_for_a_new_value() -> None:
    found = only(FIVE)
    scale = np.std(FIVE, ddof=1) * math.sqrt(1 + 1 / 5)
    wanted = stats.t.interval(0.9, 4, loc=np.mean(FIVE), scale=scale)
    np.testing.assert_allclose((found.low, found.high), wanted, rtol=1e-12)
    assert found.bias == pytest.approx(0.14)


def share_inside(draw: Draw, proxies: int, step: float = 0.0) -> float:
    """The share of next values that lie in the interval of the proxies before them."""
    rows = draw(np.random.default_rng(11), (REPEATS, proxies + 1))
    found = [(only(list(row[:-1]), step=step), row[-1]) for row in rows]
    return float(np.mean([each.low <= value <= each.high for each, value in found]))


@pytest.mark.parametrize("proxies", [3, 5, 12])
def test_normal_differences_are_covered_as_often_as_said(proxies: int) -> None:
    # Four standard errors of a share of 90 % in so many repeats.
    share = share_inside(lambda rng, shape: rng.normal(1.3, 0.7, shape), proxies)
    assert abs(share - 0.9) < 4 * math.sqrt(0.09 / REPEATS)


@pytest.mark.parametrize("proxies", [3, 5, 12])
def test_skewed_differences_are_covered_nearly_as_often(proxies: int) -> None:
    assert share_inside(lambda rng, shape: rng.exponential(1.0, shape), proxies) > 0.85


@pytest.mark.parametrize("proxies", [3, 5, 12])
def test_differences_of_a_few_images_are_covered_although_they_are_often_all_equal(
    proxies: int,
) -> None:
    step = 5.0  # percentage points: 20 images

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
        images = rng.binomial(20, 0.02, shape) - rng.binomial(20, 0.03, shape)
        return np.asarray(step * images, np.float64)

    assert share_inside(draw, proxies, step) > 0.88
    assert share_inside(draw, proxies, step) > share_inside(draw, proxies) + 0.01 * (proxies < 5)


def test_equal_differences_get_no_interval_of_width_0() -> None:
    found = only([0.0] * 5, margin=2.0, step=0.5)
    half = stats.t.ppf(0.95, 4) * 0.5 * math.sqrt(1.2)
    assert (found.low, found.high) == pytest.approx((-half, half))
    assert found.state == "within"
    unknown = only([0.0] * 5)
    assert (unknown.low, unknown.high, unknown.state) == (-math.inf, math.inf, "unknown")


@pytest.mark.parametrize(
    ("shift", "margin", "state"),
    [(0.0, 2.0, "within"), (9.0, 2.0, "outside"), (-9.0, 2.0, "outside"), (1.5, 2.0, "open")],
)
def test_the_interval_is_compared_with_the_margin(shift: float, margin: float, state: str) -> None:
    assert only([value + shift for value in FIVE], margin).state == state


def test_more_proxies_make_it_narrower_but_not_narrower_than_the_spread() -> None:
    widths = []
    for times in (1, 4, 100):
        found = only(FIVE * times)
        widths.append(found.high - found.low)
    assert all(later < before for before, later in pairwise(widths))
    assert widths[-1] > 2 * stats.norm.ppf(0.95) * np.std(FIVE)


def test_only_a_prediction_within_all_margins_speaks_for_equivalence() -> None:
    margins, steps = {"a": 2.0, "b": 2.0}, {"a": 0.1, "b": 0.1}
    far = [value + 9 for value in FIVE]
    good = predict({"a": FIVE, "b": FIVE}, margins, steps)
    assert (good.state, good.proxies) == (WITHIN, 5)
    assert good.reasons == ["2 of 2 metrics predicted within the margins"]
    bad = predict({"a": FIVE, "b": far}, margins, steps)
    assert bad.state == NOT_WITHIN
    assert bad.reasons[-1] == "predicted outside the margin: b"
    few = predict({"a": FIVE[:2], "b": FIVE[:2]}, margins, steps)
    assert (few.state, few.reasons) == (NONE, ["2 proxies measured: a prediction needs 3"])
    assert {good.state, bad.state, few.state} == {*STATES}


def test_a_diverged_proxy_forbids_the_green_word() -> None:
    found = predict({"a": FIVE}, {"a": 2.0}, {"a": 0.1}, diverged=1)
    assert found.state == NOT_WITHIN
    assert found.reasons[0] == "unlearning diverged on 1 proxy"


def test_if_all_proxies_diverge_nothing_is_predicted() -> None:
    found = predict_from({"metrics": {}, "diverged": 4}, {"a": 2.0})
    assert (found.state, found.proxies) == (NONE, 4)
    assert found.reasons[0] == "unlearning diverged on 4 proxies"


@pytest.mark.parametrize(
    ("kind", "images", "said"),
    [
        ("ids", 37, ""),
        ("ids", 30, ""),
        ("class", 37, "the proxies are requests of kind ids, not class"),
        ("ids", 74, "the proxies are of 37 images, not 74"),
    ],
)
def test_proxies_say_nothing_about_other_requests(kind: str, images: int, said: str) -> None:
    metrics = {"a": {"differences": FIVE, "resolution": 0.1}}
    proxies = {"metrics": metrics, "kind": "ids", "images": 37}
    found = predict_from(proxies, {"a": 2.0}, kind=kind, images=images)
    assert found.state == (NONE if said else WITHIN)
    assert not said or list(found.reasons) == [said]


def test_metrics_of_too_few_images_are_named() -> None:
    found = predict({"a": [0.0] * 5}, {"a": 2.0}, {"a": 5.3})
    assert found.state == NOT_WITHIN
    last = "so few images that one of them moves the metric by its margin: a"
    assert found.reasons[-1] == last


def test_plain_data_have_the_fields_of_a_record() -> None:
    summary = {"metrics": {"a": {"differences": FIVE, "resolution": 0.1}}, "diverged": 0}
    found = predict_from(summary, {"a": 2.0}).as_plain()
    assert found.keys() == {"state", "proxies", "metrics"}
    assert found["metrics"]["a"].keys() == {"bias", "low", "high", "margin"}
    summary["metrics"]["a"]["differences"] = []  # type: ignore[index]
    assert predict_from(summary, {"a": 2.0}).as_plain() == {
        "state": NONE,
        "proxies": 0,
        "metrics": {"a": {"bias": None, "low": None, "high": None, "margin": 2.0}},
    }


@pytest.mark.parametrize(
    ("differences", "margins", "said"),
    [
        ({"a": FIVE}, {}, "margins = {}: name at least one metric"),
        ({"a": FIVE}, {"a": 0.0}, "margins.a = 0.0: must be finite and above 0"),
        ({"a": FIVE}, {"a": 1.0, "b": 1.0}, "number of differences of b = 0: must be 5"),
        ({}, {"a": 1.0}, "number of differences of a = 0"),
        ({"a": [1.0, math.nan, 2.0]}, {"a": 1.0}, "differences.a = .*: must be finite numbers"),
    ],
)
def test_what_cannot_be_predicted_from_is_named(
    differences: dict[str, list[float]], margins: dict[str, float], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        predict(differences, margins, {})
