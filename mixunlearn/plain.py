"""Plain data: what JSON, MLflow and pages can hold of a number that may be no number."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np


def finite(value: object) -> float | None:
    """Return a number as a float; `None` for NaN, infinity, and what is no real number.

    Truth values count as 0 and 1, NumPy's numbers as numbers, text never as a number. An integer
    that no float can hold is `None` as well.
    """
    if not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def plain(value: Any) -> Any:  # noqa: ANN401 - as nested as what is given
    """Return nested data as strict JSON can hold it: NaN and infinity become `None`.

    Mappings become dicts, tuples and arrays become lists, NumPy's scalars become Python's; what
    is none of these stays as it is. Keys stay as they are.
    """
    match unwrapped(value):
        case Mapping() as mapping:
            return {key: plain(item) for key, item in mapping.items()}
        case list() | tuple() as items:
            return [plain(item) for item in items]
        case np.ndarray() as array:
            return plain(array.tolist())
        case float() as number:
            return finite(number)
        case other:
            return other


def unwrapped(value: Any) -> Any:  # noqa: ANN401 - any scalar
    """Return the Python value of a NumPy scalar; anything else as it is."""
    if isinstance(value, np.floating):
        return float(value)  # `item` leaves a longdouble as it is
    return value.item() if isinstance(value, np.generic) else value
