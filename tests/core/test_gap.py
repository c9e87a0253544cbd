"""Gaps, z and divergence against references, compared with values computed by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mixunlearn.metrics.accuracy import accuracy
from mixunlearn.metrics.divergence import js_divergence
from mixunlearn.metrics.gap import Evaluation, ReferenceSet

UNIFORM = np.full((4, 2), 0.5, dtype=np.float32)
ONE_HOT = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (4, 1))


def evaluation(accuracy: float, asr: float, probs: np.ndarray = UNIFORM) -> Evaluation:
    return Evaluation(metrics={"acc/val": accuracy, "mia/asr": asr}, forget_probs_NK=probs)


def references(*evaluations: Evaluation, resolution: float = 0.5) -> ReferenceSet:
    return ReferenceSet(
        evaluations=evaluations,
        seconds=[1.0] * len(evaluations),
        gap_metrics=("acc/val", "mia/asr"),
        resolution={"acc/val": resolution, "mia/asr": resolution},
    )


def test_gap_is_the_distance_to_the_mean_and_z_is_signed_in_sd() -> None:
    found = references(evaluation(90, 40), evaluation(92, 50), evaluation(94, 60)).compare(
        evaluation(89, 55)
    )
    assert found["gap/acc/val"] == pytest.approx(3)
    assert found["z/acc/val"] == pytest.approx(-1.5)
    assert found["gap/mia/asr"] == pytest.approx(5)
    assert found["z/mia/asr"] == pytest.approx(0.5)
    assert found["gap/avg"] == pytest.approx(4)
    assert found["acc/val"] == 89


def test_references_that_agree_are_no_better_than_their_resolution() -> None:
    found = references(evaluation(0, 40), evaluation(0, 40)).compare(evaluation(2, 40))
    assert found["z/acc/val"] == pytest.approx(4)
    assert found["z/mia/asr"] == 0
    assert found["gap/mia/asr"] == 0


def test_equal_numbers_have_no_gap_to_the_last_bit() -> None:
    value = 42.4528301886
    found = references(*[evaluation(value, value)] * 3).compare(evaluation(value, value))
    assert found["gap/avg"] == 0


def test_one_reference_has_gaps_but_no_spread() -> None:
    one = references(evaluation(90, 40))
    found = one.compare(evaluation(91, 40))
    assert found["gap/avg"] == pytest.approx(0.5)
    assert not any(name.startswith("z/") for name in found)
    assert one.own_gaps() == []


def test_own_gaps_judge_each_reference_by_the_others() -> None:
    found = references(evaluation(90, 40), evaluation(92, 40), evaluation(97, 40)).own_gaps()
    assert found == pytest.approx([4.5 / 2, 1.5 / 2, 6 / 2])


def test_divergence_is_the_mean_over_the_references() -> None:
    two = references(evaluation(90, 40, UNIFORM), evaluation(90, 40, ONE_HOT))
    between = js_divergence(UNIFORM, ONE_HOT)
    assert two.compare(evaluation(90, 40, ONE_HOT))["div/js"] == pytest.approx(between / 2)
    assert two.values("div/js") == pytest.approx([between, between])


def test_js_divergence_by_its_definition() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), size=(2, 30))

    def entropy(x: np.ndarray) -> float:
        return float(-(x * np.log(x)).sum(axis=1).mean())

    expected = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
    assert js_divergence(p.astype(np.float32), q.astype(np.float32)) == pytest.approx(
        expected, rel=1e-5
    )


def test_js_divergence_is_zero_where_alike_and_ln_2_where_disjoint() -> None:
    assert js_divergence(ONE_HOT, ONE_HOT) == 0
    assert js_divergence(ONE_HOT, ONE_HOT[:, ::-1]) == pytest.approx(math.log(2))


def test_accuracy_is_in_percent_and_undefined_without_samples() -> None:
    assert accuracy(ONE_HOT, np.array([0, 0, 0, 1])) == 75
    assert math.isnan(accuracy(ONE_HOT[:0], np.array([], dtype=np.int64)))


def test_the_worst_gap_is_counted_in_margins() -> None:
    known = replace(
        references(evaluation(90, 50), evaluation(92, 50)),
        gap_metrics=("acc/val", "mia/asr"),
        margins={"acc/val": 2.0, "mia/asr": 5.0},
    )
    # 1.5 margins of accuracy, 2 margins of the attack.
    assert known.compare(evaluation(88, 60))["gap/worst"] == 2
    assert known.compare(evaluation(86, 60))["gap/worst"] == 2.5
