"""Which images are forgotten, retained, used for tuning and kept for the report.

Shapes: N row ids of a data set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.labelled import Rows
from mixunlearn.data.names import known_names
from mixunlearn.errors import InputError
from mixunlearn.signature import seed_for, signature
from mixunlearn.tasks import Task
from mixunlearn.tasks.written import check_task
from mixunlearn.wording import counted

VAL_BESIDE_TEST = 0.1  # of the training part, if the source has its own test part
VAL, TEST = 0.2, 0.2  # of all images, if it has none
ENOUGH = 3  # a class with at least so many images has an image in every part


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """Row ids of the parts of a data set: int64, sorted, disjoint.

    Attributes:
        forget_N: training images to be forgotten.
        retain_N: the other training images.
        val_N: images that a search may use.
        test_N: images that only a report may use.
        truth_N: labels of `forget_N` in the source, even if the task changes them.
        known_N: the rows of `retain_N` whose labels a method may see.
        task: the unlearning task.
        key: 8 hex digits that name data, task, seed and limit.
        searched: whether a search evaluates on a part of `forget_N`, which a report then leaves
            out.
    """

    forget_N: Rows
    retain_N: Rows
    val_N: Rows
    test_N: Rows
    truth_N: Rows
    known_N: Rows
    task: Task
    key: str
    searched: bool = True

    @property
    def forgotten(self) -> tuple[int, ...]:
        """Return the classes that are forgotten completely, () if there are none."""
        return self.task.forgotten

    def corrupted(self, dataset: Dataset) -> Dataset:
        """Return the data set that models of the task are trained on; most tasks change nothing.

        Args:
            dataset: the unchanged images of the source, from which the splits were made.
        """
        return self.task.corrupted(dataset, self.forget_N, self.key)

    def words(self, names: Sequence[str]) -> str:
        """Describe in words what is forgotten.

        Args:
            names: of the classes.
        """
        sizes = {"forget": self.forget_N, "retain": self.retain_N, "known": self.known_N}
        return self.task.words(names, **{part: len(rows_N) for part, rows_N in sizes.items()})


def make_splits(
    dataset: Dataset,
    task: Mapping[str, object],
    *,
    seed: int = 0,
    limit: Mapping[str, int] | None = None,
    trained: bool = False,
) -> Splits:
    """Return the split of `dataset` for an unlearning task; equal arguments give equal splits.

    If the source has its own test part, it is used for `test`, and a tenth of the training part
    for `val`. If not, each of the two gets a fifth of all images. They are drawn class by class,
    from images that no list of ids asks to forget.

    If a model was trained on the whole training part, `val` is half of the test part: a held-out
    image must be one that the model has never seen.

    Args:
        dataset: the labelled images.
        task: as for `mixunlearn.tasks.written.check_task`.
        seed: of every draw.
        limit: `{"train": n, "test": n}`: use random samples of this size instead of whole parts.
        trained: whether the original is a model that was trained on the whole training part.

    Raises:
        InputError: the task or a limit does not fit the data set, or no image is left that a
            trained model has not seen.
    """
    checked = check_task(task, dataset)
    limits = _check_limit(limit or {}, dataset)
    parts = _unseen_parts if trained else _parts
    train, val, test = parts(dataset, checked, seed, limits)
    # Draws permute the rows that they get, so these are always in the same order.
    forget = np.sort(checked.forget(dataset, np.sort(train), seed))
    retain = np.sort(np.setdiff1d(train, forget, assume_unique=True))
    if not len(retain):
        raise InputError("task", dict(task), "every training image is forgotten: forget fewer")
    return Splits(
        forget_N=forget,
        retain_N=retain,
        val_N=np.sort(val),
        test_N=np.sort(test),
        truth_N=dataset.labels_N[forget],
        known_N=np.sort(checked.known(dataset, retain, seed)),
        task=checked,
        # `int`, because JSON cannot hold NumPy's integers.
        key=signature(
            [dataset.digest, checked.content(), int(seed), limits, *["trained"] * trained]
        ),
    )


def unsearched(splits: Splits) -> Splits:
    """Return the same parts for a report that measures all of D_f, because nothing is tuned on it.

    They have another key: what was measured on a part of D_f must not be taken for this.
    """
    return replace(splits, searched=False, key=signature([splits.key, "unsearched"]))


def other_splits(dataset: Dataset, splits: Splits, number: int, *, seed: int = 0) -> Splits:
    """Return the same parts with another forget set, which shares no image with the first.

    So models trained on all training images serve for both, unless the task changes images.

    Args:
        dataset: the unchanged images of the source.
        splits: of the first forget set.
        number: which other forget set of the task's kind, from 1.
        seed: the seed of the first splits.

    Raises:
        InputError: there is no such forget set.
    """
    train = np.sort(np.concatenate((splits.forget_N, splits.retain_N)))
    task = splits.task.another(dataset, train, number)
    forget = np.sort(task.forget(dataset, train, seed))
    if np.isin(forget, splits.forget_N).any():  # a kind of task that ignores the draw
        remedy = "its forget set is always the same, there is no other one of this kind"
        raise InputError("task.kind", task.kind, remedy)
    retain = np.setdiff1d(train, forget, assume_unique=True)
    return replace(
        splits,
        forget_N=forget,
        retain_N=retain,
        truth_N=dataset.labels_N[forget],
        known_N=np.sort(task.known(dataset, retain, seed)),
        task=task,
        # With the first one's key: data, seed and limit are the same.
        key=signature([splits.key, task.content(), number]),
    )


def describe(dataset: Dataset, splits: Splits) -> dict[str, list[int]]:
    """Return the number of images of each class by part: forget, retain, val, test."""
    parts = {
        "forget": splits.forget_N,
        "retain": splits.retain_N,
        "val": splits.val_N,
        "test": splits.test_N,
    }
    classes = len(dataset.classes)
    return {
        name: np.bincount(dataset.labels_N[rows], minlength=classes).tolist()
        for name, rows in parts.items()
    }


def _check_limit(limit: Mapping[str, object], dataset: Dataset) -> dict[str, int]:
    if not isinstance(limit, Mapping):
        raise InputError("data.limit", limit, "must be a mapping, for example {train: 1000}")
    there = {"train": dataset.n_train, "test": len(dataset.labels_N) - dataset.n_train}
    checked = {}
    for part, count in limit.items():
        if part not in there:
            raise InputError(f"data.limit.{part}", count, f"unknown; {known_names(part, there)}")
        if count is not None:
            checked[part] = _check_count(part, count, there[part], dataset.source)
    return checked


def _check_count(part: str, count: object, there: int, source: str) -> int:
    key = f"data.limit.{part}"
    if not there:
        remedy = f"source {source!r} has no test part of its own: use data.limit.train alone"
        raise InputError(key, count, remedy)
    if isinstance(count, Integral) and not isinstance(count, bool) and 0 < int(count) <= there:
        return int(count)
    raise InputError(key, count, f"must be a whole number in 1..{there}, the number of images")


def _parts(
    dataset: Dataset, task: Task, seed: int, limits: Mapping[str, int]
) -> tuple[Rows, Rows, Rows]:
    """Return the rows for training, tuning and the report.

    Images that the task lists by id are always in the training part: a limit cannot leave them
    out, they are added to its sample.
    """
    labels_N, digest = dataset.labels_N, dataset.digest
    asked = np.array(task.asked, np.int64)
    train = _sample(np.arange(dataset.n_train), "train", digest, seed, limits)
    test = _sample(np.arange(dataset.n_train, len(labels_N)), "test", digest, seed, limits)
    free = np.setdiff1d(train, asked, assume_unique=True)
    # Without the task, so that all tasks of a data set share `val` and `test`.
    rng = np.random.default_rng(seed_for("split", digest, int(seed)))
    if len(test):
        val, train = _cut(free, labels_N, (VAL_BESIDE_TEST,), rng)
    else:
        val, test, train = _cut(free, labels_N, (VAL, TEST), rng)
    if not len(val):
        raise _too_few(dataset, limits, len(asked))
    return np.concatenate((train, asked)), val, test


def _unseen_parts(
    dataset: Dataset, task: Task, seed: int, limits: Mapping[str, int]
) -> tuple[Rows, Rows, Rows]:
    """Return the rows for training, tuning and the report if all of the first are known."""
    labels_N, digest = dataset.labels_N, dataset.digest
    train = _sample(np.arange(dataset.n_train), "train", digest, seed, limits)
    test = _sample(np.arange(dataset.n_train, len(labels_N)), "test", digest, seed, limits)
    if not len(test):
        remedy = "missing: your model knows all other images; name images it has never seen"
        raise InputError("data.test", None, remedy)
    rng = np.random.default_rng(seed_for("split", digest, int(seed)))
    val, test = _cut(test, labels_N, (0.5,), rng)
    if not len(val):
        remedy = f"no class has {ENOUGH} images, too few to split: use more images"
        raise InputError("data.test", counted(len(test), "image"), remedy)
    asked = np.array(task.asked, np.int64)
    return np.union1d(train, asked), val, test


def _too_few(dataset: Dataset, limits: Mapping[str, int], asked: int) -> InputError:
    remedy = f"no class has {ENOUGH} images, too few to split: use more images"
    if "train" in limits:
        return InputError("data.limit.train", limits["train"], remedy)
    if asked:
        remedy = f"without them {remedy.partition(':')[0]}: forget fewer"
        return InputError("task.ids", counted(asked, "image"), remedy)
    return InputError("data.source", dataset.source, remedy)


def _sample(rows: Rows, part: str, digest: str, seed: int, limits: Mapping[str, int]) -> Rows:
    if part not in limits:
        return rows
    rng = np.random.default_rng(seed_for("limit", part, digest, int(seed)))
    # The start of one order: a larger limit contains the images of a smaller one.
    return rng.permutation(rows)[: limits[part]]


def _cut(
    rows: Rows, labels_N: NDArray[np.int64], shares: Sequence[float], rng: np.random.Generator
) -> list[Rows]:
    """Return one part for each share and one with the rest, each with all classes."""
    # Sorted first, so that the result does not depend on the order of `rows`.
    shuffled = rng.permutation(np.sort(rows))
    # Stable, so that the random order within each class is kept.
    by_class = shuffled[np.argsort(labels_N[shuffled], kind="stable")]
    starts = np.flatnonzero(np.diff(labels_N[by_class])) + 1
    cut = [_cut_class(members, shares) for members in np.split(by_class, starts)]
    return [np.concatenate(pieces) for pieces in zip(*cut, strict=True)]


def _cut_class(members: Rows, shares: Sequence[float]) -> list[Rows]:
    if len(members) < ENOUGH:
        sizes = [0 for _ in shares]
    else:
        sizes = [max(1, round(share * len(members))) for share in shares]
    return np.split(members, np.cumsum(sizes))
