"""RUM: which images come when, and that each part is forgotten by its method."""

from typing import Any

import numpy as np
import pytest
import torch

from mixunlearn.data.hardness import hardness
from mixunlearn.data.sources import SOURCES
from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS
from mixunlearn.methods.rum import RUM, memorised, seen_by, thirds
from mixunlearn.problem import Problem
from mixunlearn.references import ReferenceStore

CPU = torch.device("cpu")


def prepared(problem: Problem, **parameters: Any) -> RUM:
    method = RUM(**parameters)
    method.prepare(problem.context(CPU, 0))
    return method


def test_parts_are_ranked_and_the_highest_are_never_left_out() -> None:
    scores = np.array([5.0, 1.0, 3.0, 9.0, 7.0, 2.0, 8.0])
    assert [part.tolist() for part in thirds(scores)] == [[1, 5], [2, 0], [4, 6, 3]]
    assert [part.tolist() for part in thirds(np.array([4.0]))] == [[], [], [0]]
    assert [part.tolist() for part in thirds(np.array([4.0, 1.0]))] == [[], [1], [0]]


def test_memorisation_is_that_of_the_task_hard(
    problem: Problem, references: ReferenceStore
) -> None:
    splits = references.splits
    rows_N = np.concatenate((splits.forget_N, splits.retain_N))
    expected = hardness(SOURCES["digits"](), rows_N, "memorisation")[: len(splits.forget_N)]
    found = memorised(problem.context(CPU, 0), "memorisation")
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_confidence_is_the_originals_in_the_own_class(problem: Problem) -> None:
    found = memorised(problem.context(CPU, 0), "confidence")
    labels_N = problem.forget.samples.labels_N
    own_N = problem.forget.probs_NK[np.arange(len(labels_N)), labels_N]
    np.testing.assert_allclose(-found, own_N, rtol=1e-6)


@pytest.mark.parametrize(
    ("epochs", "low", "order"),
    [
        (6, "original", [1, 1, 1, 2, 2, 2]),
        (5, "original", [1, 1, 2, 2, 2]),
        (4, "neggrad", [0, 1, 2, 2]),
        (2, "neggrad", [1, 2]),
        (1, "original", [2]),
    ],
)
def test_epochs_are_shared_out_from_low_to_high(
    problem: Problem, epochs: int, low: str, order: list[int]
) -> None:
    method = prepared(problem, schedule_epochs=epochs, low=low, high="neggrad")
    found = [method.epoch()["part"] for _ in range(epochs)]
    assert sorted(found) == found
    assert set(found) == set(order)
    assert found[-1] == 2


def test_each_part_is_forgotten_by_its_method_from_where_the_last_one_ended(
    problem: Problem,
) -> None:
    method = prepared(problem, schedule_epochs=2, middle="neggrad", high="scrub", lr=1e-3)
    parts = method.parts_N
    first = METHODS["neggrad"](lr=1e-3)
    first.prepare(method.part(1))
    assert first.context.forget.labels_N is not None
    assert len(first.context.forget) == len(parts[1])
    torch.testing.assert_close(
        first.context.forget.images_NCHW,
        method.context.forget.images_NCHW[torch.from_numpy(parts[1])],
    )
    first.epoch()
    method.epoch()
    for mine, expected in zip(method.model.parameters(), first.model.parameters(), strict=True):
        assert torch.equal(mine, expected)
    method.epoch()
    # The second method's original is the first one's result, and so are the predictions it sees.
    for mine, expected in zip(method.base.parameters(), first.model.parameters(), strict=True):
        assert torch.equal(mine, expected)
    seen = seen_by(first.model, method.method.context.retain)
    assert torch.equal(method.method.context.retain.probs_NK, seen.probs_NK)  # type: ignore[arg-type]
    assert type(method.method) is METHODS["scrub"]


def test_it_goes_on_in_the_middle_of_the_second_part(problem: Problem) -> None:
    whole, before, after = (prepared(problem, schedule_epochs=4, high="neggrad") for _ in range(3))
    for _ in range(3):
        whole.epoch()
        before.epoch()
    after.load_state_dict(before.state_dict())
    assert after.epoch() == whole.epoch()
    for mine, expected in zip(after.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, expected)


def test_all_parts_may_be_left_alone(problem: Problem) -> None:
    method = prepared(problem, middle="original", high="original")
    assert method.epoch() == {"loss": 0.0, "part": 2.0}


def test_what_it_cannot_use_is_refused(problem: Problem) -> None:
    with pytest.raises(InputError, match=r"search\.space\.high = 'ssd': must be one of original"):
        prepared(problem, high="ssd")
    with pytest.raises(InputError, match=r"search\.space\.by = 'age': must be memorisation or"):
        prepared(problem, by="age")
