"""Forget whole classes: all their training images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import Rows
from mixunlearn.errors import InputError
from mixunlearn.tasks.base import Task
from mixunlearn.tasks.draws import of_classes
from mixunlearn.tasks.keys import Classes
from mixunlearn.tasks.wording import listed
from mixunlearn.wording import counted


@dataclass(frozen=True, kw_only=True)
class ClassTask(Task):
    """Forget all training images of some classes.

    Args:
        classes: sorted.
    """

    classes: Annotated[tuple[int, ...], Classes(default=[0], leaves_one=True)]

    @classmethod
    def level(cls, written: Mapping[str, object]) -> str:
        """Return "class"."""
        return "class"

    @property
    def forgotten(self) -> tuple[int, ...]:
        """Return the classes."""
        return self.classes

    def forget(self, dataset: Dataset, train_N: Rows, seed: int) -> Rows:
        """Return all images of the classes; nothing is drawn."""
        return of_classes(dataset, train_N, self.classes)

    def another(self, dataset: Dataset, train_N: Rows, number: int) -> Self:
        """Return the task of as many other classes, in the order of their numbers."""
        classes, count = len(dataset.classes), len(self.classes)
        others = [each for each in range(classes) if each not in self.classes]
        # From the class after the first one, so that neighbours are not always the same.
        start = sum(each < self.classes[0] for each in others)
        chosen = [*others[start:], *others[:start]][(number - 1) * count :][:count]
        if len(chosen) < count:
            most = len(others) // count
            remedy = f"only {counted(most, 'other forget set')} of as many classes can be made"
            raise InputError("task.classes", list(self.classes), remedy)
        return replace(self, classes=tuple(sorted(chosen)))

    def words(self, names: Sequence[str], *, forget: int, retain: int, known: int) -> str:
        """Describe the number of images and their classes."""
        return f"all {counted(forget, 'training image')} of class {listed(self.classes, names)}"
