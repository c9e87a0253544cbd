"""The interface of a kind of task, which data, evaluation and experiments use.

Shape suffixes: N samples, C channels, H W pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Self, get_type_hints

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import Images, LabelledImages, Rows
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.tasks.keys import Key
from mixunlearn.wording import with_article


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """A metric of one task: the share of some images that a model assigns to given classes.

    Args:
        name: of the metric, `group/metric`; one of the task's `metrics`.
        labels_N: the classes, int64. The metric is in percent.
        images_NCHW: returns the images, uint8; `None` means the evaluated images of D_f.
    """

    name: str
    labels_N: Rows
    images_NCHW: Callable[[], Images] | None = None


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A checked unlearning task: equal tasks are equal values, however the user wrote them.

    A subclass is one kind of task, a frozen keyword-only dataclass. Its fields are its keys, in
    display order. Each is annotated with its type after the check and with a `Key` that checks
    what the user wrote: `fraction: Annotated[float, Fraction(default=0.1)]`.

    Attributes:
        metrics: the names of the metrics that `measures` adds.

    Args:
        kind: its name in `TASKS`.
        draw: number of the forget set among those that a draw gives; users write the first, 0.
    """

    metrics: ClassVar[tuple[str, ...]] = ()

    kind: str
    draw: int = 0

    # What users write

    @classmethod
    def schema(cls) -> dict[str, Key]:
        """Return the keys of the kind by name; each checks what a user writes."""
        hints = get_type_hints(cls, include_extras=True)
        return {
            field.name: key
            for field in fields(cls)
            for key in getattr(hints[field.name], "__metadata__", ())
            if isinstance(key, Key)
        }

    @classmethod
    def level(cls, written: Mapping[str, object]) -> str:
        """Return the kind of task as methods see it: "class" if whole classes are forgotten.

        Args:
            written: the task as the user wrote it, not checked yet.
        """
        return str(written.get("kind"))

    @classmethod
    def checked(cls, kind: str, written: Mapping[str, object], dataset: Dataset) -> Self:
        """Return the task with its defaults filled in.

        Args:
            kind: its name in `TASKS`.
            written: the keys that the user wrote, with their values; the others have defaults.
            dataset: the labelled images.

        Raises:
            InputError: a key or a value is invalid.
        """
        keys = cls.schema()
        for name, value in written.items():
            if name not in keys:
                remedy = f"{with_article(kind)} task has no such key; {known_names(name, keys)}"
                raise InputError(f"task.{name}", value, remedy)
        values = cls.values(written, dataset)
        reason = cls.incompatible(dataset)
        if reason is not None:
            raise InputError("task.kind", kind, reason)
        return cls(kind=kind, **values)

    @classmethod
    def values(cls, written: Mapping[str, object], dataset: Dataset) -> dict[str, Any]:
        """Return the checked value of each key; override this if keys depend on each other.

        Args:
            written: as for `checked`.
            dataset: the labelled images.

        Raises:
            InputError: a value is invalid.
        """
        return {
            name: key.check(name, written.get(name, key.default), dataset)
            for name, key in cls.schema().items()
        }

    @classmethod
    def incompatible(cls, dataset: Dataset) -> str | None:
        """Return why the task cannot use a data set, `None` if it can; most tasks accept any."""
        return None

    # What is forgotten

    @property
    def asked(self) -> tuple[int, ...]:
        """Return the training images that the user listed by row; they have no other use."""
        lists = [getattr(self, name) for name, key in self.schema().items() if key.lists_rows]
        return tuple(row for rows in lists for row in rows)

    @property
    def forgotten(self) -> tuple[int, ...]:
        """Return the classes that are forgotten completely."""
        return ()

    @abstractmethod
    def forget(self, dataset: Dataset, train_N: Rows, seed: int) -> Rows:
        """Return the rows of D_f, in any order; equal arguments give equal rows.

        Args:
            dataset: the unchanged images of the source.
            train_N: the rows of all training images, sorted.
            seed: of the draw.

        Raises:
            InputError: there is nothing to forget.
        """

    def another(self, dataset: Dataset, train_N: Rows, number: int) -> Self:
        """Return the task of another forget set of this kind and size.

        Override this if `forget` draws nothing.

        Args:
            dataset: the unchanged images of the source.
            train_N: the rows of all training images, sorted.
            number: which one, from 1.

        Raises:
            InputError: there is none, or not so many.
        """
        return replace(self, draw=number)

    def known(self, dataset: Dataset, retain_N: Rows, seed: int) -> Rows:
        """Return the rows of D_r whose labels methods may see, in any order.

        Args:
            dataset: the unchanged images of the source.
            retain_N: the rows of D_r, sorted.
            seed: of the draw.

        Raises:
            InputError: methods would know no label.
        """
        return retain_N

    def corrupted(self, dataset: Dataset, forget_N: Rows, key: str) -> Dataset:
        """Return the data set that models are trained on; most tasks change nothing.

        Only images and labels of D_f may change. Equal arguments give equal data sets.

        Args:
            dataset: the unchanged images of the source.
            forget_N: the rows of D_f.
            key: key of the splits, for seeds.
        """
        return dataset

    # How it is evaluated

    def gap_metrics(self, held_out: str) -> tuple[str, ...]:
        """Return the metrics that `gap/avg` averages: those of the paper's table for the task.

        Args:
            held_out: name of the accuracy on held-out images, "acc/val" or "acc/test".
        """
        if self.forgotten:
            return ("acc/train_forget", f"{held_out}_retain", f"{held_out}_forget", "mia/asr")
        return ("acc/train_retain", "acc/train_forget", held_out, "mia/asr")

    def measures(self, held_out: LabelledImages, truth_N: Rows) -> Sequence[Measure]:
        """Return what is measured for this task in addition to the metrics of all tasks.

        Args:
            held_out: images the model never saw, unchanged.
            truth_N: labels in the source of the evaluated images of D_f.
        """
        return ()

    # How it is described

    @abstractmethod
    def words(self, names: Sequence[str], *, forget: int, retain: int, known: int) -> str:
        """Describe in words what is forgotten.

        Args:
            names: of the classes.
            forget: number of images of D_f.
            retain: number of images of D_r.
            known: number of labels of D_r that methods may see.
        """

    def content(self) -> dict[str, object]:
        """Return plain data that identifies the task, for keys and seeds."""
        # The first kinds of tasks always had both names; their splits must keep their keys.
        first: dict[str, object] = {"classes": None, "fraction": None}
        content = {name: value for name, value in asdict(self).items() if value is not None}
        if not self.draw:  # older versions had no draws
            del content["draw"]
        return first | content
