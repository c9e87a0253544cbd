"""Reads the record of a night as plain JSON; a missing value is replaced by a text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from mixunlearn.plain import finite
from report.notation import ABSENT

# Plain JSON, not NightRecord: reports lie below `distributed` and must not import from it.
Record: TypeAlias = Mapping[str, Any]

UNDECIDED = "no verdict"


def verdict_of(night: Record, experiment: Record) -> str:
    """Return an experiment's verdict; without one, the night's state or "no verdict"."""
    state = text_of(night.get("state"), "done")
    return text_of(experiment.get("verdict"), UNDECIDED if state == "done" else state)


def parts_of(night: Record) -> Sequence[Record]:
    """Return the results of a night, one part per experiment."""
    return night.get("experiments") or ()


def text_of(value: object, otherwise: str = ABSENT) -> str:
    """Return a value as one line of text; `otherwise` if it is missing or empty."""
    return otherwise if value is None else " ".join(str(value).split()) or otherwise


def numbers_in(values: Iterable[object] | None) -> list[float]:
    """Return the finite numbers among values."""
    return [value for value in map(finite, values or ()) if value is not None]
