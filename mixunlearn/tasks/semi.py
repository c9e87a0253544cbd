"""Few labels: the forget set of another task, but methods see only some labels of D_r."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import Rows
from mixunlearn.errors import InputError
from mixunlearn.tasks.base import Task
from mixunlearn.tasks.class_ import ClassTask
from mixunlearn.tasks.data import DataTask
from mixunlearn.tasks.draws import shuffled
from mixunlearn.tasks.keys import Classes, Fraction, OneOf
from mixunlearn.wording import counted

OF: dict[str, type[ClassTask | DataTask]] = {"class": ClassTask, "data": DataTask}


@dataclass(frozen=True, kw_only=True)
class SemiTask(Task):
    """Forget as a class or a data task does; methods know a fraction of the retained labels.

    Args:
        of: the kind of task that defines the forget set, a key of `OF`.
        classes: sorted, as in that kind.
        fraction: as in that kind, or `None` if it has none.
        labelled: share of the retained labels that a method knows, in (0, 1].
    """

    of: Annotated[str, OneOf(options=tuple(OF), default="data")]
    classes: Annotated[tuple[int, ...], Classes()]
    fraction: Annotated[float | None, Fraction()]
    labelled: Annotated[float, Fraction(default=0.1)]

    @classmethod
    def level(cls, written: Mapping[str, object]) -> str:
        """Return the kind of task that defines the forget set."""
        return str(written.get("of") or cls.schema()["of"].default)

    @classmethod
    def values(cls, written: Mapping[str, object], dataset: Dataset) -> dict[str, Any]:
        """Return the checked keys; keys of the other kind have that kind's defaults."""
        keys = cls.schema()
        own = {
            name: keys[name].check(name, written.get(name, keys[name].default), dataset)
            for name in ("of", "labelled")
        }
        other = OF[own["of"]]
        theirs = {name: value for name, value in written.items() if name not in own}
        if "fraction" in theirs and "fraction" not in other.schema():
            remedy = f"with of: {own['of']} all images of the classes are forgotten; leave it out"
            raise InputError("task.fraction", theirs["fraction"], remedy)
        return {"fraction": None, **other.values(theirs, dataset), **own}

    @property
    def forgetting(self) -> ClassTask | DataTask:
        """Return the task that defines the forget set: the same images, drawn in the same way."""
        kind = OF[self.of]
        keys = {name: getattr(self, name) for name in kind.schema()}
        return kind(kind=self.of, draw=self.draw, **keys)

    @property
    def forgotten(self) -> tuple[int, ...]:
        """Return the classes if they are forgotten completely, else ()."""
        return self.forgetting.forgotten

    def forget(self, dataset: Dataset, train_N: Rows, seed: int) -> Rows:
        """Return the images that the other task forgets."""
        return self.forgetting.forget(dataset, train_N, seed)

    def another(self, dataset: Dataset, train_N: Rows, number: int) -> Self:
        """Return the task with another forget set of the other task."""
        other = self.forgetting.another(dataset, train_N, number)
        return replace(self, draw=other.draw, classes=other.classes)

    def known(self, dataset: Dataset, retain_N: Rows, seed: int) -> Rows:
        """Return random images of D_r."""
        count = round(self.labelled * len(retain_N))
        if not count:
            labels = counted(len(retain_N), "label")
            remedy = f"knows none of {labels}: {1 / len(retain_N):.2g} knows one"
            raise InputError("task.labelled", self.labelled, remedy)
        # `labelled` is not part of the seed, so a larger share contains a smaller one.
        return shuffled(retain_N, dataset, self.forgetting.content(), seed, "labelled")[:count]

    def words(self, names: Sequence[str], *, forget: int, retain: int, known: int) -> str:
        """Describe the other task and the number of known labels."""
        words = self.forgetting.words(names, forget=forget, retain=retain, known=known)
        return f"{words}; methods know {known} of {counted(retain, 'retained label')}"
