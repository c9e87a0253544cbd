"""The table of `mixunlearn evidence`: a row for each method, for the page and for a terminal.

A method is reported on several forget sets. Each cell shows the set that speaks most against it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from mixunlearn.evidence.states import EQUIVALENT
from mixunlearn.plain import finite
from report.notation import ABSENT, hundredths, score, signed, three_digits
from report.runs import NOTHING, mapping
from report.verdict import style

HEADINGS = (
    "state",
    "group",
    "distance (pp)",
    "farthest bias (margins)",
    "attack by example",
    "contest score",
    "relearning (pp)",
    "probe (pp)",
    "time / retraining",
)
SLOWER = "slower than retraining"
RELEARNING, PROBE = "relearn/retain", "probe/forget"

Plain = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number with its 90 % interval.

    Args:
        value: the number.
        low, high: the interval; `None` if it is unknown.
        of: the metric and the forget set, in words.
    """

    value: float
    low: float | None
    high: float | None
    of: str = ""

    def between(self, write: Callable[[object], str]) -> str:
        """Return the interval as text; empty if it is unknown."""
        known = self.low is not None and self.high is not None
        return f"{write(self.low)} to {write(self.high)}" if known else ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell: its text, and what is written below it in small."""

    text: str
    below: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method: its name, a cell for each heading, the classes of row and state in the page."""

    name: str
    cells: Sequence[Cell]
    style: str = ""
    look: str = ""


def rows(evidence: Plain) -> list[Row]:
    """Return a row for each method, in the order of the evidence."""
    return [_row(method, mapping(evidence.get("margins"))) for method in methods(evidence)]


def terminal_table(evidence: Plain) -> RichTable:
    """Return the table for a terminal: state, farthest bias, attack by example, cost."""
    shown = ("state", "farthest bias (margins)", "attack by example", "time / retraining")
    table = RichTable("method", *shown, box=box.SIMPLE_HEAD)
    for row in rows(evidence):
        cells = [row.cells[HEADINGS.index(heading)] for heading in shown]
        # As `Text`, because brackets in a plain string are markup.
        table.add_row(*(Text(text) for text in (row.name, *map(_in_one_line, cells))))
    return table


def methods(evidence: Plain) -> list[Plain]:
    """Return the methods of the evidence, doing nothing included."""
    return [mapping(each) for each in evidence.get("methods") or ()]


def sets_of(method: Plain) -> dict[str, Plain]:
    """Return what is known of a method, by forget set; empty if it has no result."""
    return {name: mapping(found) for name, found in mapping(method.get("sets")).items()}


def state_on(found: Plain) -> str:
    """Return the state of a method on one forget set; empty for doing nothing."""
    return str(mapping(found.get("verdict")).get("state") or "")


def interval(found: object, scale: float = 1.0) -> Interval | None:
    """Return the interval of plain data with `value`, `low` and `high`, each divided by a scale.

    Returns:
        `None` if the value is unknown.
    """
    known = (finite(mapping(found).get(name)) for name in ("value", "low", "high"))
    # Rounded, because 1e-13 is a rounding error; + 0.0 because −0.0 would get a sign.
    value, low, high = (each if each is None else round(each / scale, 9) + 0.0 for each in known)
    return None if value is None else Interval(value=value, low=low, high=high)


def bias_in_margins(found: Plain, metric: str, margin: object) -> Interval | None:
    """Return the bias of a metric on one forget set in units of its margin; `None` if unknown."""
    scale = finite(margin)
    judged = mapping(mapping(found.get("verdict")).get("metrics")).get(metric)
    # Doing nothing has no verdict, but it is measured.
    bias = judged or mapping(found.get("measures")).get(metric)
    return interval(bias, scale) if scale else None


def excess(found: Plain, kind: str) -> Interval | None:
    """Return the excess AUC of the attack by example on forget or retain images."""
    return interval(mapping(mapping(found.get("per_example")).get(kind)).get("excess_auc"))


def signed_area(value: object) -> str:
    """Return a difference of two areas under curves: +0.04."""
    return hundredths(value, "+")


def _row(method: Plain, margins: Plain) -> Row:
    name = str(method.get("method", ABSENT))
    cells = [
        _state(method),
        Cell(text=str(method.get("group") or ABSENT)),
        _distance(method),
        _farthest(method, margins),
        _attack(method),
        _contest(method),
        _difference(method, RELEARNING),
        _difference(method, PROBE),
        _cost(method),
    ]
    role = "original" if name == NOTHING else ""
    return Row(
        name=name,
        cells=cells,
        style="winner" if is_equivalent(method) else role,
        look=style(str(method.get("state") or "")),
    )


def is_equivalent(method: Plain) -> bool:
    """Return whether a method is equivalent to retraining on all forget sets."""
    return method.get("state") == EQUIVALENT


def _state(method: Plain) -> Cell:
    states = {name: state_on(found) for name, found in sets_of(method).items()}
    differ = len(set(states.values())) > 1
    below = "; ".join(f"{name}: {state or ABSENT}" for name, state in states.items() if differ)
    absent = "no result" if method.get("absent") else ABSENT
    return Cell(text=str(method.get("state") or absent), below=below)


def _distance(method: Plain) -> Cell:
    found = interval(method.get("distance"))
    return _written(found, three_digits)


def _farthest(method: Plain, margins: Plain) -> Cell:
    found = [
        replace(bias, of=f"{metric}, {name}")
        for name, each in sets_of(method).items()
        for metric, margin in margins.items()
        if (bias := bias_in_margins(each, metric, margin))
    ]
    farthest = max(found, key=lambda each: abs(each.value), default=None)
    return Cell(text=score(farthest.value), below=farthest.of) if farthest else Cell(text=ABSENT)


def _attack(method: Plain) -> Cell:
    found = [
        replace(each, of=name)
        for name, known in sets_of(method).items()
        if (each := excess(known, "forget"))
    ]
    most = max(found, key=lambda each: each.value, default=None)
    return _written(most, signed_area)


def _contest(method: Plain) -> Cell:
    found = list(_contests(method))
    if not found:
        return Cell(text=ABSENT)
    lowest, ceiling, name = min(found, key=lambda each: each[0] / each[1])
    return Cell(text=hundredths(lowest), below=f"of {hundredths(ceiling)}, {name}")


def _contests(method: Plain) -> Iterator[tuple[float, float, str]]:
    """Yield score, ceiling and name of each forget set that has them."""
    for name, known in sets_of(method).items():
        contest = mapping(known.get("contest"))
        reached, ceiling = finite(contest.get("score")), finite(contest.get("ceiling"))
        if reached is not None and ceiling:
            yield reached, ceiling, name


def _difference(method: Plain, metric: str) -> Cell:
    """Return the largest difference to retrained models in a measure."""
    found = [
        replace(each, of=name)
        for name, known in sets_of(method).items()
        if (each := interval(mapping(known.get("measures")).get(metric)))
    ]
    return _written(max(found, key=lambda each: abs(each.value), default=None), signed)


def _cost(method: Plain) -> Cell:
    cost = finite(method.get("cost"))
    return Cell(text=three_digits(cost), below=SLOWER if cost is not None and cost > 1 else "")


def _written(found: Interval | None, write: Callable[[object], str]) -> Cell:
    if found is None:
        return Cell(text=ABSENT)
    below = ", ".join(filter(None, (found.between(write), found.of)))
    return Cell(text=write(found.value), below=below)


def _in_one_line(cell: Cell) -> str:
    return f"{cell.text} ({cell.below})" if cell.below else cell.text
