"""The keys that a task can have: what a user may write for each, checked against the data set."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Integral
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeGuard

import pyarrow as pa

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.named_rows import find_rows, row_names
from mixunlearn.data.requests import Listed, read_request
from mixunlearn.errors import InputError

SHOWN = 20  # class names listed in an error message
LARGEST = 2**63 - 1  # whole number in 64 bits


@dataclass(frozen=True, kw_only=True)
class Key(ABC):
    """One key of a task.

    Attributes:
        bounds: limits of what a user may write, with pydantic's names: gt, ge, lt, le.
        lists_rows: whether the key lists rows of the data set, or names a file of them. Then the
            rows identify a study, not the text that the user wrote.
        names_classes: whether the user may write names of classes; their numbers identify a study.

    Args:
        default: the value if the user leaves the key out; `None` if `check` computes it from the
            data or refuses it.
    """

    bounds: ClassVar[Mapping[str, float]] = MappingProxyType({})
    lists_rows: ClassVar[bool] = False
    names_classes: ClassVar[bool] = False

    default: Any = None

    @property
    def written(self) -> Any:  # noqa: ANN401 - Python has no type for types such as Literal
        """Return the type of what a user may write, as far as it is known without the data."""
        return Any

    @abstractmethod
    def check(self, name: str, value: object, dataset: Dataset) -> Any:  # noqa: ANN401 - any key's
        """Return the value in its standard form: plain data, equal for equal meanings.

        Args:
            name: of the key, for the error message.
            value: what the user wrote, or the default.
            dataset: the labelled images.

        Raises:
            InputError: the value is invalid.
        """


@dataclass(frozen=True, kw_only=True)
class Classes(Key):
    """Some classes by their numbers or names; their numbers are stored as a sorted tuple.

    Args:
        half: which half of the classes to use if the user names none and there is no default.
        leaves_one: whether at least one class must be left out.
    """

    names_classes: ClassVar[bool] = True

    half: Literal["lower", "upper"] = "upper"
    leaves_one: bool = False

    @property
    def written(self) -> Any:  # noqa: ANN401
        """Return a list of anything: its items can only be checked with the data set."""
        return list[Any]

    def check(self, name: str, value: object, dataset: Dataset) -> tuple[int, ...]:
        """Return the sorted classes; see `Key.check`."""
        key, number = f"task.{name}", len(dataset.classes)
        classes = self._half(number) if value is None else value
        # A text is a sequence too, of its characters.
        if isinstance(classes, str) or not isinstance(classes, Sequence):
            raise InputError(key, classes, "must be a list of numbers, for example [0]")
        if not classes:
            raise InputError(key, classes, "is empty: name at least one class")
        checked = {check_class(name, index, dataset.classes) for index in classes}
        if len(checked) < len(classes):
            raise InputError(key, classes, "names a class twice: name each once")
        if self.leaves_one and len(checked) == number:
            raise InputError(key, classes, "all classes are forgotten: leave at least one")
        return tuple(sorted(checked))

    def _half(self, number: int) -> list[int]:
        # A single class is in both halves, so that neither is empty.
        lower, upper = range(max(1, number // 2)), range(number // 2, number)
        return list(lower if self.half == "lower" else upper)


@dataclass(frozen=True, kw_only=True)
class OneClass(Key):
    """One class by its number or name."""

    names_classes: ClassVar[bool] = True

    def check(self, name: str, value: object, dataset: Dataset) -> int:
        """Return the class; see `Key.check`."""
        return check_class(name, value, dataset.classes)


@dataclass(frozen=True, kw_only=True)
class Fraction(Key):
    """A share in (0, 1]."""

    bounds: ClassVar[Mapping[str, float]] = MappingProxyType({"gt": 0, "le": 1})

    @property
    def written(self) -> Any:  # noqa: ANN401
        """Return a number."""
        return float

    def check(self, name: str, value: object, dataset: Dataset) -> float:
        """Return the share; see `Key.check`."""
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1:
            # 1 and 1.0 are the same task, but JSON, and so a key, would distinguish them.
            return float(value)
        remedy = "must be a number above 0, at most 1, for example 0.1"
        raise InputError(f"task.{name}", value, remedy)


@dataclass(frozen=True, kw_only=True)
class Side(Key):
    """The side of a square within an image, in pixels."""

    bounds: ClassVar[Mapping[str, float]] = MappingProxyType({"ge": 1})

    @property
    def written(self) -> Any:  # noqa: ANN401
        """Return a whole number."""
        return int

    def check(self, name: str, value: object, dataset: Dataset) -> int:
        """Return the number of pixels; see `Key.check`."""
        height, width = dataset.images_NCHW.shape[2:]
        if _is_whole(value) and 0 < value <= min(height, width):
            return int(value)
        remedy = f"must be a whole number in 1..{min(height, width)}: images are {height}x{width}"
        raise InputError(f"task.{name}", value, remedy)


@dataclass(frozen=True, kw_only=True)
class OneOf(Key):
    """One of some words.

    Args:
        options: the words.
    """

    options: tuple[str, ...]

    @property
    def written(self) -> Any:  # noqa: ANN401
        """Return one of the words."""
        return Literal[self.options]

    def check(self, name: str, value: object, dataset: Dataset) -> str:
        """Return the word; see `Key.check`."""
        if isinstance(value, str) and value in self.options:
            return value
        raise InputError(f"task.{name}", value, f"must be {' or '.join(self.options)}")


@dataclass(frozen=True, kw_only=True)
class RowList(Key):
    """Training images by row or name, or a file of them; rows are stored as a sorted tuple."""

    lists_rows: ClassVar[bool] = True

    def check(self, name: str, value: object, dataset: Dataset) -> tuple[int, ...]:
        """Return the sorted rows; see `Key.check`."""
        if not isinstance(value, Sequence):
            remedy = "must be a list of row numbers, for example [17], or a file of them"
            raise InputError(f"task.{name}", value, remedy)
        names = row_names(dataset)
        if isinstance(value, str):
            listed = read_request(value, names)
        else:
            listed = _listed(f"task.{name}", value, dataset, "path" in names)
        if not len(listed.ids):
            raise InputError(f"task.{name}", value, "is empty: name at least one training image")
        return tuple(find_rows(listed, dataset, names).tolist())


def _listed(key: str, ids: Sequence[object], dataset: Dataset, files: bool) -> Listed:
    """Return ids in an experiment: all are numbers, or names if images have files."""
    if files and ids and all(isinstance(index, str) for index in ids):
        return Listed(ids=pa.array(ids, pa.string()), column="path")
    rows: list[int] = []
    for index in ids:
        if not _is_whole(index) or abs(index) > LARGEST:
            there = f"they are the rows 0..{dataset.n_train - 1}"
            if isinstance(index, str):
                there += "; names of a column go into a file, below its name"
            raise InputError(key, index, f"no training image has this id; {there}")
        rows.append(int(index))
    return Listed(ids=pa.array(rows, pa.int64()))


def check_class(name: str, index: object, names: Sequence[str]) -> int:
    """Return the number of a class, which the user named or numbered.

    Text is a name, also "3": a class of this name need not have this number.

    Raises:
        InputError: there is no such class, or there are several of this name.
    """
    if isinstance(index, str) and (times := names.count(index)):
        if times > 1:
            remedy = f"{times} classes have this name: write the number of one"
            raise InputError(f"task.{name}", index, remedy)
        return names.index(index)
    if _is_whole(index) and 0 <= index < len(names):
        return int(index)
    listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    near = get_close_matches(index, names, n=1) if isinstance(index, str) else []
    nearest = f"did you mean {near[0]!r}? " if near else ""
    remedy = f"{nearest}classes are the numbers 0..{len(names) - 1} ({listed})"
    raise InputError(f"task.{name}", index, remedy)


def _is_whole(value: object) -> TypeGuard[int]:
    # NumPy's integers count; YAML's `true` does not, although a bool is an int in Python.
    return isinstance(value, Integral) and not isinstance(value, bool)
