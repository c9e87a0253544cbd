"""What is to be forgotten, checked against the data there are."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Integral
from typing import Any, TypeGuard

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.names import known_names
from mixunlearn.data.requests import read_request
from mixunlearn.errors import InputError

SHOWN = 20  # class names listed in an error message
# Each kind's keys; a default of None is computed from the data, or else the key must be given.
KINDS: dict[str, dict[str, object]] = {
    "class": {"classes": [0]},
    "data": {"classes": None, "fraction": 0.4},  # the paper's: 40 % of the upper half
    "random": {"fraction": 0.1},
    "ids": {"ids": None},
    "noisy": {"classes": None, "fraction": 0.6},  # the paper's: 60 % of the lower half
    "backdoor": {"target": 0, "fraction": 0.1, "size": 3},
    "semi": {"of": "data", "classes": None, "fraction": None, "labelled": 0.1},
    "hard": {"fraction": 0.1, "by": "memorisation", "order": "highest"},
}
CORRUPTING = ("noisy", "backdoor")  # their forget set is spoilt before any model is trained
CHOICES = {
    "of": ("class", "data"),
    "by": ("memorisation", "loss"),
    "order": ("highest", "lowest"),
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A checked unlearning task: equal tasks are equal values, however they were written.

    A kind has some of these; the others are None.

    Attributes:
        kind: a key of `KINDS`.
        classes: sorted classes whose training images may be forgotten.
        fraction: share of the images in question to forget, in (0, 1].
        ids: sorted rows of the training images to forget.
        target: the class that images with a trigger are labelled with.
        size: side of the trigger in pixels.
        of: kind of the task whose forget set a semi-supervised one has: "class" or "data".
        labelled: share of the retained labels that a method knows, in (0, 1].
        by: measure of `mixunlearn.data.hardness` that images are ranked by.
        order: whether the "highest" or the "lowest" are forgotten.
    """

    kind: str
    classes: tuple[int, ...] | None = None
    fraction: float | None = None
    ids: tuple[int, ...] | None = None
    target: int | None = None
    size: int | None = None
    of: str | None = None
    labelled: float | None = None
    by: str | None = None
    order: str | None = None

    @property
    def forgetting(self) -> "Task":
        """Return the task whose forget set this one has: equal images, drawn alike."""
        return replace(self, kind=self.of, of=None, labelled=None) if self.of else self

    def content(self) -> dict[str, object]:
        """Return plain data that names the task, for keys and seeds."""
        # Splits made before the later attributes were there must keep their keys.
        first = ("kind", "classes", "fraction")
        return {
            name: value
            for name, value in asdict(self).items()
            if value is not None or name in first
        }


def level(task: Mapping[str, object]) -> str:
    """Return as what kind of task a method sees one: "class" where whole classes are forgotten.

    Args:
        task: as the user wrote it, not checked yet; of its keys "kind" and "of" matter.
    """
    kind = str(task.get("kind"))
    return str(task.get("of") or KINDS.get(kind, {}).get("of") or kind)


def check_task(task: Mapping[str, object], dataset: Dataset) -> Task:
    """Return `task` with its defaults filled in.

    Args:
        task: `{"kind": "class", "classes": [0]}`, `{"kind": "data", "fraction": 0.4,
            "classes": [5, 6]}` (default: the upper half of the classes), or another kind
            with some of the keys that `KINDS` has for it. None counts as absent.
        dataset: the labelled images.

    Raises:
        InputError: a key, the kind or a value is not one there can be.
    """
    kind = task.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError("task.kind", kind, f"unknown; {known_names(kind, KINDS)}")
    keys = _filled(kind, task, len(dataset.classes))
    values: dict[str, Any] = {key: CHECKS[key](value, dataset) for key, value in keys.items()}
    checked = Task(kind=kind, **values)
    if level(task) == "class" and len(checked.classes or ()) == len(dataset.classes):
        remedy = "all classes are forgotten: leave at least one"
        raise InputError("task.classes", keys["classes"], remedy)
    if kind in CORRUPTING and len(dataset.classes) == 1:
        raise InputError("task.kind", kind, "there is only one class: no label can be wrong")
    return checked


def _filled(kind: str, task: Mapping[str, object], classes: int) -> dict[str, object]:
    """Return the keys of a task with their defaults."""
    given = {key: value for key, value in task.items() if key != "kind" and value is not None}
    for key, value in given.items():
        if key not in KINDS[kind]:
            remedy = f"a {kind} task has no such key; {known_names(key, KINDS[kind])}"
            raise InputError(f"task.{key}", value, remedy)
    keys = KINDS[kind] | given
    if "of" in keys:
        keys = _of_another(keys)
    if "classes" in keys and keys["classes"] is None:
        halves = range(max(1, classes // 2)), range(classes // 2, classes)
        keys["classes"] = list(halves[kind not in CORRUPTING])
    return keys


def _of_another(keys: dict[str, object]) -> dict[str, object]:
    """Return keys with the defaults of the kind that the task's forget set is of."""
    of = _check_choice("of", keys["of"])
    if keys["fraction"] is not None and "fraction" not in KINDS[of]:
        remedy = f"with of: {of} all images of the classes are forgotten; leave it out"
        raise InputError("task.fraction", keys["fraction"], remedy)
    return KINDS[of] | {key: value for key, value in keys.items() if value is not None}


def _check_classes(classes: object, dataset: Dataset) -> tuple[int, ...]:
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise InputError("task.classes", classes, "must be a list of numbers, for example [0]")
    if not classes:
        raise InputError("task.classes", classes, "is empty: name at least one class")
    checked = [_check_class("classes", index, dataset.classes) for index in classes]
    if len(set(checked)) < len(checked):
        raise InputError("task.classes", classes, "names a class twice: name each once")
    return tuple(sorted(checked))


def _check_class(key: str, index: object, names: Sequence[str]) -> int:
    if isinstance(index, str) and index in names:
        raise InputError(f"task.{key}", index, f"is a name: write {names.index(index)} for it")
    if _is_whole(index) and 0 <= index < len(names):
        return int(index)
    listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    remedy = f"classes are the numbers 0..{len(names) - 1} ({listed})"
    raise InputError(f"task.{key}", index, remedy)


def _check_fraction(key: str, fraction: object) -> float:
    if isinstance(fraction, int | float) and not isinstance(fraction, bool) and 0 < fraction <= 1:
        return float(fraction)
    remedy = "must be a number above 0, at most 1, for example 0.1"
    raise InputError(f"task.{key}", fraction, remedy)


def _check_ids(ids: object, dataset: Dataset) -> tuple[int, ...]:
    listed = read_request(ids) if isinstance(ids, str) else ids
    if not isinstance(listed, Sequence):
        remedy = "must be a list of row numbers, for example [17], or a file of them"
        raise InputError("task.ids", ids, remedy)
    if not listed:
        raise InputError("task.ids", ids, "is empty: name at least one training image")
    for index in listed:
        if not _is_whole(index) or not 0 <= index < dataset.n_train:
            remedy = f"no training image has this id; they are the rows 0..{dataset.n_train - 1}"
            raise InputError("task.ids", index, remedy)
    index, times = Counter(listed).most_common(1)[0]
    if times > 1:
        raise InputError("task.ids", index, f"is there {times} times: name each image once")
    return tuple(sorted(map(int, listed)))


def _check_size(size: object, dataset: Dataset) -> int:
    height, width = dataset.images_NFHW.shape[2:]
    if _is_whole(size) and 0 < size <= min(height, width):
        return int(size)
    remedy = f"must be a whole number in 1..{min(height, width)}: images are {height}x{width}"
    raise InputError("task.size", size, remedy)


def _check_choice(key: str, value: object) -> str:
    if isinstance(value, str) and value in CHOICES[key]:
        return value
    raise InputError(f"task.{key}", value, f"must be {' or '.join(CHOICES[key])}")


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


CHECKS: Mapping[str, Callable[[object, Dataset], object]] = {
    "classes": _check_classes,
    "fraction": lambda value, _: _check_fraction("fraction", value),
    "ids": _check_ids,
    "target": lambda value, dataset: _check_class("target", value, dataset.classes),
    "size": _check_size,
    "of": lambda value, _: _check_choice("of", value),
    "labelled": lambda value, _: _check_fraction("labelled", value),
    "by": lambda value, _: _check_choice("by", value),
    "order": lambda value, _: _check_choice("order", value),
}
