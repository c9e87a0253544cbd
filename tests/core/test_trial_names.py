from itertools import pairwise

import pytest

from mixunlearn.trial_names import trial_name


@pytest.mark.parametrize(
    ("number", "name"), [(0, "0000"), (7, "0007"), (9999, "9999"), (10_000, "10000")]
)
def test_a_name_is_the_number_with_four_digits_at_least(number: int, name: str) -> None:
    assert trial_name(number) == name
    assert trial_name(number).isdigit()  # this distinguishes folders of trials from others
    assert int(trial_name(number)) == number


def test_names_sort_by_number() -> None:
    assert all(first < second for first, second in pairwise(map(trial_name, range(10_000))))
