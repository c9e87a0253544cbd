"""How numbers and counts of a night are written; a missing value is `–`."""

from collections.abc import Iterable, Sequence

import numpy as np

from mixunlearn.plain import finite
from report.nightly.record import Record, text_of
from report.notation import ABSENT, MINUS, three_digits

UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (0.0, "bytes"))


def lines_of(values: Iterable[object] | None) -> list[str]:
    """Return values as text, one line each, without missing and empty ones."""
    return [said for said in (text_of(value, "") for value in values or ()) if said]


def setting(value: object) -> str:
    """Return a hyperparameter's value with six significant digits."""
    # A sampled float has up to 17 digits: too many for a table.
    return f"{value:.6g}" if isinstance(value, float) else text_of(value)


def signed(value: object) -> str:
    """Return a number with its sign: +0.30, −1.20."""
    number = finite(value)
    if number is None:
        return ABSENT
    return f"{MINUS if number < 0 else '+'}{three_digits(abs(number))}"


def between(bounds: Record) -> str:
    """Return an interval as text; its ends are under `low` and `high`."""
    return f"{signed(bounds.get('low'))} to {signed(bounds.get('high'))}"


def with_unit(text: str) -> str:
    """Return a number with the unit of gaps, percentage points."""
    return text if text == ABSENT else f"{text} pp"


def minutes(seconds: object) -> str:
    """Return seconds as minutes, with three significant digits."""
    known = finite(seconds)
    return ABSENT if known is None else three_digits(known / 60)


def size(count: object) -> str:
    """Return a number of bytes with its unit."""
    known = finite(count)
    if known is None:
        return ABSENT
    limit, unit = next(each for each in UNITS if known >= each[0] or not each[0])
    return f"{three_digits(known / limit)} {unit}" if limit else f"{known:.0f} {unit}"


def distribution(values: Sequence[float]) -> dict[str, float | int | None]:
    """Return mean, sd (n − 1; none for one value) and n."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)) if values else None, "sd": sd, "n": len(values)}
