import math

import pytest

from mixunlearn.plain import finite
from report.notation import difference, mean_and_sd, score, three_digits, unit, unit_name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (128.4, "128"),
        (99.96, "100"),
        (97.64, "97.6"),
        (9.996, "10.0"),
        (5.234, "5.23"),
        (0.3, "0.30"),
        (0.0312, "0.0312"),
        (0.0, "0.00"),
        (-5.234, "−5.23"),
        (3, "3.00"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, "97"])
def test_what_is_no_finite_number_is_absent(value: object) -> None:
    assert finite(value) is None
    assert three_digits(value) == "–"
    assert difference(value) == "–"


def test_differences_are_brief_but_never_rounded_to_nothing() -> None:
    assert [difference(value) for value in (158.2, 52.14, 0.34, 0.0077, 0)] == [
        "158",
        "52.1",
        "0.3",
        "0.008",
        "0.0",
    ]


def test_scores_are_signed() -> None:
    assert [score(value) for value in (158.2, 1.25, -0.84, 0.0)] == ["+158", "+1.2", "−0.8", "+0.0"]


def test_mean_and_sd_share_their_last_decimal() -> None:
    assert mean_and_sd({"mean": 98.034, "sd": 0.153, "n": 3}) == "98.03 ± 0.15 (3)"
    assert mean_and_sd({"mean": 39.37, "sd": 1.99, "n": 5}) == "39.4 ± 2.0 (5)"
    assert mean_and_sd({"mean": 0.01333, "sd": 0.00153, "n": 3}) == "0.0133 ± 0.0015 (3)"
    assert mean_and_sd({"mean": 0.0, "sd": 0.0, "n": 3}) == "0.0 ± 0.0 (3)"
    assert mean_and_sd({"mean": -0.51, "sd": 0.2, "n": 2}) == "−0.51 ± 0.20 (2)"


def test_a_single_run_has_no_sd() -> None:
    assert mean_and_sd({"mean": 98.03, "sd": None, "n": 1}) == "98.0 ± – (1)"
    assert mean_and_sd({"mean": None, "sd": None, "n": 0}) == "–"
    assert mean_and_sd(None) == "–"


def test_units() -> None:
    units = {
        "acc/test": "%",
        "mia/asr": "%",
        "mia/loss_auc": "",
        "div/js": "nats",
        "time/unlearn_s": "s",
        "time/ratio_to_retrain": "×",
        "gap/avg": "pp",
        "gap/mia/asr": "pp",
        "gap/div/js": "nats",
        "z/mia/asr": "",
    }
    assert {metric: unit(metric) for metric in units} == units
    assert unit_name("gap/avg") == "percentage points"
    assert unit_name("div/js") == "nats"
