"""Plain data for JSON, MLflow and pages, where NaN and infinity are not allowed."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np


def finite(value: object) -> float | None:
    """Return a number as a float; `None` for NaN, infinity, and anything that is not a real number.

    Booleans count as 0 and 1, NumPy's numbers as numbers, text never as a number. An integer that
    is too large for a float gives `None`.
    """
    if not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def plain(value: Any) -> Any:  # noqa: ANN401 - as nested as the input
    """Return nested data that strict JSON can hold: NaN and infinity become `None`.

    Mappings become dicts, tuples and arrays become lists, NumPy's scalars become Python's;
    anything else stays as it is. Keys stay as they are.
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
    """Return the Python value of a NumPy scalar; any other value is returned unchanged."""
    if isinstance(value, np.floating):
        return float(value)  # `item` would return a longdouble unchanged
    return value.item() if isinstance(value, np.generic) else value
