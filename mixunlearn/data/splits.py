"""Which images are forgotten, retained, used for tuning and kept for the report.

Shapes: N row ids of a data set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.names import known_names
from mixunlearn.data.tasks import Task, check_task
from mixunlearn.errors import InputError
from mixunlearn.signature import seed_for, signature

Rows = NDArray[np.int64]

VAL_BESIDE_TEST = 0.1  # of the training part, when the source has its own test part
VAL, TEST = 0.2, 0.2  # of all images, when it has none
ENOUGH = 3  # images of a class from which on every part gets one


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """Row ids of the parts of a data set: int64, sorted, disjoint.

    Attributes:
        forget_N: training images to be forgotten.
        retain_N: the other training images.
        val_N: images a search may look at.
        test_N: images only a report may look at.
        forgotten: classes that a class task forgets whole, () otherwise.
        key: 8 hex digits that name data, task, seed and limit.
    """

    forget_N: Rows
    retain_N: Rows
    val_N: Rows
    test_N: Rows
    forgotten: tuple[int, ...]
    key: str


def make_splits(
    dataset: Dataset,
    task: Mapping[str, object],
    *,
    seed: int = 0,
    limit: Mapping[str, int] | None = None,
) -> Splits:
    """Return the split of `dataset` for an unlearning task; equal arguments, equal split.

    A source's own test part is the test part, and a tenth of its training part is for
    tuning; without one, a fifth of all images each. Both are drawn class by class.

    Args:
        dataset: the labelled images.
        task: as for `mixunlearn.data.tasks.check_task`.
        seed: of every draw.
        limit: `{"train": n, "test": n}`, random samples to use instead of the whole parts.

    Raises:
        InputError: the task or a limit does not fit the data set.
    """
    checked = check_task(task, dataset.classes)
    limits = _check_limit(limit or {}, dataset)
    train, val, test = _parts(dataset, seed, limits)
    forget = _forget(dataset, train, checked, seed)
    retain = np.setdiff1d(train, forget, assume_unique=True)
    if not len(retain):
        raise InputError("task", dict(task), "every training image is forgotten: forget fewer")
    return Splits(
        forget_N=np.sort(forget),
        retain_N=np.sort(retain),
        val_N=np.sort(val),
        test_N=np.sort(test),
        forgotten=(checked.classes or ()) if checked.kind == "class" else (),
        key=signature([dataset.digest, asdict(checked), int(seed), limits]),
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
    raise InputError(key, count, f"must be a whole number in 1..{there}, the images there are")


def _parts(dataset: Dataset, seed: int, limits: Mapping[str, int]) -> tuple[Rows, Rows, Rows]:
    labels_N, digest = dataset.labels_N, dataset.digest
    train = _sample(np.arange(dataset.n_train), "train", digest, seed, limits)
    test = _sample(np.arange(dataset.n_train, len(labels_N)), "test", digest, seed, limits)
    rng = np.random.default_rng(seed_for("split", digest, int(seed)))
    if len(test):
        val, train = _cut(train, labels_N, (VAL_BESIDE_TEST,), rng)
    else:
        val, test, train = _cut(train, labels_N, (VAL, TEST), rng)
    if not len(val):
        limited = "train" in limits
        key = "data.limit.train" if limited else "data.source"
        remedy = f"no class has {ENOUGH} images, too few to split: use more images"
        raise InputError(key, limits["train"] if limited else dataset.source, remedy)
    return train, val, test


def _sample(rows: Rows, part: str, digest: str, seed: int, limits: Mapping[str, int]) -> Rows:
    if part not in limits:
        return rows
    rng = np.random.default_rng(seed_for("limit", part, digest, int(seed)))
    return rng.permutation(rows)[: limits[part]]


def _cut(
    rows: Rows, labels_N: NDArray[np.int64], shares: Sequence[float], rng: np.random.Generator
) -> list[Rows]:
    """Return one part for each share and one of what is left, each with all the classes."""
    shuffled = rng.permutation(np.sort(rows))
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


def _forget(dataset: Dataset, train: Rows, task: Task, seed: int) -> Rows:
    pool = np.sort(train)
    if task.classes is not None:
        pool = pool[np.isin(dataset.labels_N[pool], task.classes)]
        if not len(pool):
            names = ", ".join(dataset.classes[index] for index in task.classes)
            remedy = f"no training image is of {names}: use other classes or more images"
            raise InputError("task.classes", list(task.classes), remedy)
    if task.fraction is None:
        return pool
    count = round(task.fraction * len(pool))
    if not count:
        remedy = f"forgets none of {len(pool)} images: {1 / len(pool):.2g} forgets one"
        raise InputError("task.fraction", task.fraction, remedy)
    rng = np.random.default_rng(seed_for("forget", dataset.digest, asdict(task), int(seed)))
    return rng.permutation(pool)[:count]
