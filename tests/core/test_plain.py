"""How numbers of all kinds, NaN and infinity too, become plain data."""

import json
import math
from collections import Counter
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import pytest

from mixunlearn.plain import finite, plain, unwrapped

BEYOND = 10**400  # an integer that no float can hold

# value, as a finite number, as plain data
KINDS = {
    "float": (0.25, 0.25, 0.25),
    "int": (3, 3.0, 3),
    "bool": (True, 1.0, True),
    "none": (None, None, None),
    "nan": (math.nan, None, None),
    "infinity": (math.inf, None, None),
    "minus infinity": (-math.inf, None, None),
    "float32": (np.float32(0.25), 0.25, 0.25),
    "float64": (np.float64(0.25), 0.25, 0.25),
    "longdouble": (np.longdouble(0.25), 0.25, 0.25),
    "float32 nan": (np.float32("nan"), None, None),
    "float64 infinity": (np.float64("inf"), None, None),
    "int64": (np.int64(3), 3.0, 3),
    "text": ("97", None, "97"),
    "bool_": (np.bool_(True), None, True),
    "str_": (np.str_("97"), None, "97"),
    "beyond": (BEYOND, None, BEYOND),
    "list": ([1, math.nan], None, [1, None]),
    "tuple": ((1, (math.inf, "a")), None, [1, [None, "a"]]),
    "array": (np.array([[1.0, np.nan]]), None, [[1.0, None]]),
    "no axes": (np.array(np.inf), None, None),
    "mapping": (MappingProxyType({"a": math.nan}), None, {"a": None}),
    "counter": (Counter("aab"), None, {"a": 2, "b": 1}),
    "nested": ({"a": [{"b": np.float32("inf")}]}, None, {"a": [{"b": None}]}),
}


@pytest.mark.parametrize(("value", "number", "_"), KINDS.values(), ids=KINDS)
def test_a_finite_number_is_a_float_and_all_else_is_none(
    value: object, number: float | None, _: object
) -> None:
    assert finite(value) == number
    assert type(finite(value)) is (type(None) if number is None else float)


def test_any_real_number_may_be_finite() -> None:
    assert finite(Fraction(1, 4)) == 0.25
    assert finite(1j) is None


@pytest.mark.parametrize(("value", "_", "data"), KINDS.values(), ids=KINDS)
def test_plain_data_is_what_json_can_hold(value: object, _: object, data: object) -> None:
    found = plain(value)
    assert found == data
    assert type(found) is type(data)
    assert json.loads(json.dumps(found, allow_nan=False)) == data


def test_plain_data_is_another_value_and_the_old_one_stays() -> None:
    value = {"a": [math.nan, (1,)]}
    assert plain(value) == {"a": [None, [1]]}
    assert math.isnan(value["a"][0])  # type: ignore[arg-type]
    assert value["a"][1] == (1,)


def test_what_is_no_scalar_of_numpy_is_not_unwrapped() -> None:
    array = np.zeros(1)
    assert unwrapped(array) is array
    assert unwrapped("text") == "text"
