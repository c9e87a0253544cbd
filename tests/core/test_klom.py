"""KLoM on margins whose divergence is known."""

import numpy as np
import pytest

from mixunlearn.evidence.klom import binned_divergence, klom


def test_half_in_one_of_two_bins_is_log_2() -> None:
    unlearned = np.zeros((64, 1))
    retrained = np.repeat((0.0, 1.0), 32)[:, None]
    assert binned_divergence(unlearned, retrained) == pytest.approx([np.log(2)])
    # Three quarters and one quarter against one half each.
    unlearned[:16] = 1.0
    known = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    assert binned_divergence(unlearned, retrained) == pytest.approx([known])


def test_nothing_in_common_is_the_largest_value() -> None:
    found = klom(np.zeros((64, 3)), np.ones((64, 3)))
    assert (found.mean, found.p95) == pytest.approx((np.log(1e5), np.log(1e5)), abs=1e-4)
    assert found.floor_mean == found.floor_p95 == 0


def test_equal_models_differ_by_nothing() -> None:
    margins = np.random.default_rng(0).normal(size=(64, 4))
    assert klom(margins, margins).mean == 0
    assert klom(np.full((64, 4), 5.0), np.full((64, 4), 5.0)).p95 == 0


def test_two_normal_distributions_differ_by_half_the_square_of_their_distance() -> None:
    rng = np.random.default_rng(1)
    found = binned_divergence(rng.normal(0.5, 1, (20_000, 20)), rng.normal(0, 1, (20_000, 20)))
    assert found.mean() == pytest.approx(0.5**2 / 2, rel=0.05)


def test_the_floor_is_what_chance_gives() -> None:
    """With as many models in each half as unlearned ones, perfect unlearning scores the floor."""
    rng = np.random.default_rng(2)
    found = klom(rng.normal(size=(64, 400)), rng.normal(size=(128, 400)))
    half = binned_divergence(rng.normal(size=(64, 400)), rng.normal(size=(64, 400)))
    assert found.floor_mean == pytest.approx(half.mean(), rel=0.1)
    assert found.floor_p95 == pytest.approx(np.percentile(half, 95), rel=0.15)
    # Equal numbers of models in all of it: simulated with as many, chance is what was measured.
    equal = klom(rng.normal(5, 3, size=(64, 400)), rng.normal(5, 3, size=(64, 400)))
    assert equal.chance_mean == pytest.approx(equal.mean, rel=0.1)
    assert equal.chance_p95 == pytest.approx(equal.p95, rel=0.15)
    assert equal.mean < equal.floor_mean


def test_one_leaking_image_in_ten_moves_the_percentile() -> None:
    rng = np.random.default_rng(3)
    unlearned, retrained = rng.normal(size=(64, 50)), rng.normal(size=(64, 50))
    quiet = klom(unlearned, retrained)
    unlearned[:, ::10] += 5
    assert klom(unlearned, retrained).p95 > 3 * quiet.p95


def test_few_models_are_refused() -> None:
    rng = np.random.default_rng(4)
    with pytest.raises(ValueError, match="64 retrained models or more, not 63"):
        klom(rng.normal(size=(64, 2)), rng.normal(size=(63, 2)))
    with pytest.raises(ValueError, match="64 unlearned models or more, not 16"):
        klom(rng.normal(size=(16, 2)), rng.normal(size=(64, 2)))
    with pytest.raises(ValueError, match="finite"):
        klom(np.full((64, 2), np.nan), rng.normal(size=(64, 2)))
