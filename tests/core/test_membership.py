"""The membership attack on models with a known leak."""

import numpy as np
import numpy.typing as npt
import pytest

from mixunlearn.metrics.accuracy import accuracy
from mixunlearn.metrics.membership import attack_success


def confident(rng: np.random.Generator, count: int, certainty: float) -> npt.NDArray[np.float32]:
    """Outputs whose largest entry is about `certainty`, at a random class."""
    top = np.clip(rng.normal(certainty, 0.02, size=count), 0.3, 0.999)
    probs = np.repeat(((1 - top) / 9)[:, None], 10, axis=1)
    probs[np.arange(count), rng.integers(10, size=count)] = top
    return probs.astype(np.float32)


def test_a_model_that_is_surer_of_members_is_seen_through() -> None:
    rng = np.random.default_rng(0)
    retain, held_out = confident(rng, 300, 0.98), confident(rng, 400, 0.6)
    assert attack_success(retain, confident(rng, 100, 0.98), held_out, 0) > 95
    # Forgotten samples look like unseen ones: half of the answers, those on members, are wrong.
    assert attack_success(retain, confident(rng, 100, 0.6), held_out, 0) == pytest.approx(50, abs=3)


def test_a_model_without_a_leak_is_guessed_at() -> None:
    rng = np.random.default_rng(1)
    retain, forget, held_out = (confident(rng, count, 0.8) for count in (600, 300, 900))
    assert attack_success(retain, forget, held_out, 0) == pytest.approx(50, abs=6)


def test_which_class_is_predicted_plays_no_part() -> None:
    rng = np.random.default_rng(2)
    retain, forget, held_out = (confident(rng, count, 0.8) for count in (90, 60, 120))
    turned = [np.roll(probs, 3, axis=1) for probs in (retain, forget, held_out)]
    found = attack_success(turned[0], turned[1], turned[2], 0)
    assert found == attack_success(retain, forget, held_out, 0)


def test_equal_seeds_give_equal_results_and_others_do_not() -> None:
    rng = np.random.default_rng(3)
    retain, forget, held_out = (confident(rng, count, 0.8) for count in (90, 60, 200))
    found = [attack_success(retain, forget, held_out, seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_too_few_images_are_an_error() -> None:
    one = np.full((1, 10), 0.1, dtype=np.float32)
    with pytest.raises(ValueError, match="two held-out images"):
        attack_success(one, one, one, 0)


def test_outputs_that_are_no_numbers_give_no_number() -> None:
    rng = np.random.default_rng(3)
    sound = [confident(rng, 30, 0.8) for _ in range(3)]
    for place in range(3):
        parts = [part.copy() for part in sound]
        parts[place][0, 0] = np.nan
        assert np.isnan(attack_success(parts[0], parts[1], parts[2], 0))
        assert np.isnan(accuracy(parts[place], np.zeros(30, np.int64)))
