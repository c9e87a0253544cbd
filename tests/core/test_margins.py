"""Margins: logits of the true class, finite and stored in half the bits."""

import numpy as np
import numpy.typing as npt
import pytest

from mixunlearn.evidence.margins import margins, packed


def softmax(logits: list[float]) -> npt.NDArray[np.float32]:
    exponents = np.exp(np.array(logits) - max(logits))
    return np.asarray(exponents / exponents.sum(), dtype=np.float32)


def test_of_two_classes_the_margin_is_the_difference_of_the_logits() -> None:
    logits = [[0.0, 0.0], [3.0, 1.0], [-7.0, 5.0], [30.0, 0.0], [0.0, 60.0]]
    probs = np.array([[softmax(pair) for pair in logits]])
    found = margins(probs, np.zeros(5, np.int64))
    assert found.shape == (1, 5)
    assert found[0] == pytest.approx([0, 2, -12, 30, -60], rel=1e-5)
    assert margins(probs, np.ones(5, np.int64)) == pytest.approx(-found)


def test_certain_outputs_have_the_largest_margin() -> None:
    probs = np.array([[[1.0, 0.0], [0.0, 1.0]]], dtype=np.float32)
    assert margins(probs, np.array([0, 0])).tolist() == [[100.0, -100.0]]


def test_outputs_are_kept_and_those_that_are_no_numbers_refused() -> None:
    probs = np.array([[[0.25, 0.75]]], dtype=np.float32)
    assert margins(probs, np.array([1])) == pytest.approx(np.log(3))
    assert probs.tolist() == [[[0.25, 0.75]]]
    with pytest.raises(ValueError, match="finite"):
        margins(np.array([[[np.nan, 1.0]]], np.float32), np.array([0]))


@pytest.mark.parametrize(("margin", "error"), [(1.0, 3e-4), (10.0, 4e-3), (100.0, 0.032)])
def test_stored_margins_are_rounded_only(margin: float, error: float) -> None:
    near = np.linspace(0.9 * margin, margin, 999)[None]
    stored = packed(np.concatenate((near, -near)))
    assert stored.dtype == np.float16
    assert np.abs(stored[0].astype(np.float64) - near).max() <= error
    assert (stored[1] == -stored[0]).all()


@pytest.mark.parametrize("margin", [100.1, -np.inf, np.nan])
def test_what_is_no_margin_is_not_stored(margin: float) -> None:
    with pytest.raises(ValueError, match="margins must be in"):
        packed(np.array([[margin]]))
