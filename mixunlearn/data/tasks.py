"""What is to be forgotten, checked against the classes there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral

from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError

SHOWN = 20  # class names listed in an error message
# Each kind's keys; a default of None is computed from the classes.
KINDS: dict[str, dict[str, object]] = {
    "class": {"classes": [0]},
    "data": {"classes": None, "fraction": 0.4},  # the paper's: 40 % of the upper half
    "random": {"fraction": 0.1},
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A checked unlearning task: equal tasks are equal values, however they were written.

    Attributes:
        kind: a key of `KINDS`.
        classes: sorted classes whose training images may be forgotten, None for all.
        fraction: share of those images to forget, in (0, 1]; None for a class task.
    """

    kind: str
    classes: tuple[int, ...] | None = None
    fraction: float | None = None


def check_task(task: Mapping[str, object], names: Sequence[str]) -> Task:
    """Return `task` with its defaults filled in.

    Args:
        task: `{"kind": "class", "classes": [0]}`, `{"kind": "data", "fraction": 0.4,
            "classes": [5, 6]}` (default: the upper half of the classes) or
            `{"kind": "random", "fraction": 0.1}`. None counts as absent.
        names: name of each class.

    Raises:
        InputError: a key, the kind, a class or the fraction is not one there can be.
    """
    kind = task.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError("task.kind", kind, f"unknown; {known_names(kind, KINDS)}")
    given = {key: value for key, value in task.items() if key != "kind" and value is not None}
    for key, value in given.items():
        if key not in KINDS[kind]:
            remedy = f"a {kind} task has no such key; {known_names(key, KINDS[kind])}"
            raise InputError(f"task.{key}", value, remedy)
    keys = KINDS[kind] | given
    classes = _check_classes(keys["classes"], names) if "classes" in keys else None
    if kind == "class" and len(classes or ()) == len(names):
        remedy = "all classes are forgotten: leave at least one"
        raise InputError("task.classes", keys["classes"], remedy)
    fraction = _check_fraction(keys["fraction"]) if "fraction" in keys else None
    return Task(kind=kind, classes=classes, fraction=fraction)


def _check_classes(classes: object, names: Sequence[str]) -> tuple[int, ...]:
    if classes is None:
        return tuple(range(len(names) // 2, len(names)))
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise InputError("task.classes", classes, "must be a list of numbers, for example [0]")
    if not classes:
        raise InputError("task.classes", classes, "is empty: name at least one class")
    checked = [_check_class(index, names) for index in classes]
    if len(set(checked)) < len(checked):
        raise InputError("task.classes", classes, "names a class twice: name each once")
    return tuple(sorted(checked))


def _check_class(index: object, names: Sequence[str]) -> int:
    if isinstance(index, str) and index in names:
        raise InputError("task.classes", index, f"is a name: write {names.index(index)} for it")
    if isinstance(index, Integral) and not isinstance(index, bool) and 0 <= int(index) < len(names):
        return int(index)
    listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    remedy = f"classes are the numbers 0..{len(names) - 1} ({listed})"
    raise InputError("task.classes", index, remedy)


def _check_fraction(fraction: object) -> float:
    if isinstance(fraction, int | float) and not isinstance(fraction, bool) and 0 < fraction <= 1:
        return float(fraction)
    remedy = "must be a number above 0, at most 1, for example 0.1"
    raise InputError("task.fraction", fraction, remedy)
