"""How metrics are written for people: units, digits and signs, the same in tables and plots."""

import re
from collections.abc import Iterable, Mapping, Sequence

from mixunlearn.metrics.table import metric_named
from mixunlearn.plain import finite

ABSENT = "–"
MINUS = "−"

UNIT_NAMES = {"%": "percent", "pp": "percentage points", "s": "seconds", "×": "times retraining"}

# (smallest size, format), largest first; the limits are where rounding would add a digit.
THREE_DIGITS = ((99.95, ".0f"), (9.995, ".1f"), (0.0995, ".2f"), (0.0, "#.3g"))
TWO_DIGITS = ((99.95, ".0f"), (9.95, ".1f"), (0.95, ".1f"), (1e-4, "#.2g"), (0.0, ".1f"))
# 1e-300: only zero is written as 0.0; any other gap keeps a digit.
DIFFERENCE = ((99.95, ".0f"), (0.095, ".1f"), (1e-300, ".1g"), (0.0, ".1f"))
SCORE = ((99.95, ".0f"), (0.0, ".1f"))
HUNDREDTHS, THOUSANDTHS = ((0.0, ".2f"),), ((0.0, ".3f"),)
SMALL_P = 0.001


# Of links, HTML, emphasis, code and table cells.
_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", **{mark: f"\\{mark}" for mark in "\\|[]*`"}})


def markdown_text(text: str) -> str:
    """Return text on one line that Markdown shows as it is: names and errors are not ours.

    Pages of MLflow would otherwise load its pictures and make links of its addresses.
    """
    line = " ".join(text.translate(_MARKUP).split())
    # Some programs make a link of any address, without marks around it.
    line = line.replace("://", "&#58;//").replace("@", "&#64;")
    return re.sub(r"(?i)\b(www)\.", r"\1&#46;", line)


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; the cells are Markdown already."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def unit(metric: str) -> str:
    """Return the unit of a metric: "%", "pp", "nats", "s", "×", or "" for none.

    Args:
        metric: name of a metric, for example `acc/test` or `gap/div/js`.
    """
    known = metric_named(metric)
    return known.unit if known else ""


def unit_name(metric: str) -> str:
    """Return the unit of a metric in words, for an axis; "" when it has none."""
    return UNIT_NAMES.get(unit(metric), unit(metric))


def three_digits(value: object) -> str:
    """Return a number with three significant digits: 128, 97.6, 5.23, 0.30, 0.0312."""
    return _written(value, THREE_DIGITS)


def two_digits(value: object) -> str:
    """Return a standard deviation: 158, 52.1, 5.2, 0.34, 0.0015."""
    return _written(value, TWO_DIGITS)


def difference(value: object) -> str:
    """Return a gap with as few digits as a comparison needs: 158, 52.1, 0.3, 0.008."""
    return _written(value, DIFFERENCE)


def score(value: object) -> str:
    """Return a signed number of standard deviations: +158, −0.8, +0.0."""
    return _written(value, SCORE, sign="+")


def signed(value: object) -> str:
    """Return a bias with three significant digits and its sign: +5.23, −0.30, +0.00."""
    return _written(value, THREE_DIGITS, sign="+")


def hundredths(value: object, sign: str = "") -> str:
    """Return a number of about 1, such as an area under a curve: 0.97; with sign "+": +0.04."""
    return _written(value, HUNDREDTHS, sign=sign)


def probability(value: object) -> str:
    """Return a p-value: 0.042, or < 0.001, because more digits say nothing."""
    p = finite(value)
    return "< 0.001" if p is not None and p < SMALL_P else _written(p, THOUSANDTHS)


def mean_and_sd(distribution: Mapping[str, object] | None) -> str:
    """Return `mean ± sd (n)`, both with the same number of decimals.

    Args:
        distribution: "mean", "sd" and "n"; a single run has no sd.
    """
    mean = finite((distribution or {}).get("mean"))
    if distribution is None or mean is None:
        return ABSENT
    sd = two_digits(distribution.get("sd"))
    # Digits of a mean beyond those of its sd are noise.
    decimals = len(sd.partition(".")[2])
    known = three_digits(mean) if sd == ABSENT else _minus(f"{mean:.{decimals}f}")
    return f"{known} ± {sd} ({distribution.get('n', ABSENT)})"


def _written(value: object, formats: tuple[tuple[float, str], ...], sign: str = "") -> str:
    number = finite(value)
    if number is None:
        return ABSENT
    spec = next(spec for limit, spec in formats if abs(number) >= limit)
    return _minus(format(number, sign + spec))


def _minus(text: str) -> str:
    return MINUS + text[1:] if text.startswith("-") else text
