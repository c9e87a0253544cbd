"""Splits: complete, disjoint, stratified, and the same for the same content."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest

from mixunlearn.data.arrow import Dataset, make_dataset
from mixunlearn.data.sources import SOURCES
from mixunlearn.errors import InputError
from mixunlearn.evaluation import evaluation_set
from mixunlearn.splits import Splits, describe, make_splits, other_splits, unsearched

NAMES = tuple("abcdefghij")
CLASS: dict[str, object] = {"kind": "class", "classes": [0]}
TASKS: list[dict[str, object]] = [
    CLASS,
    {"kind": "class", "classes": [7, 2]},
    {"kind": "data"},
    {"kind": "data", "classes": [1], "fraction": 1},
    {"kind": "random", "fraction": 0.25},
    {"kind": "ids", "ids": [599, 3, 41]},
    {"kind": "noisy"},
    {"kind": "backdoor", "target": 4, "size": 2},
    {"kind": "semi", "labelled": 0.05},
    {"kind": "semi", "of": "class", "classes": [1]},
    {"kind": "hard", "order": "lowest"},
]
SEEDS = range(5)


def make(n_train: int = 600, n_test: int = 0, *, classes: int = 10, content: int = 0) -> Dataset:
    """Return a data set with classes of very different sizes, all of at least 3 images."""
    rng = np.random.default_rng(content)
    count = n_train + n_test
    labels = np.floor(classes * rng.random(count) ** 2).astype(np.int64)
    for start in (0, n_train):
        first = labels[start:][: 3 * classes]
        first[:] = (np.arange(3 * classes) % classes)[: len(first)]
    images = rng.integers(0, 256, (count, 1, 2, 2), np.uint8)
    return make_dataset(images, labels, classes=NAMES[:classes], n_train=n_train, source="made")


def rows(splits: Splits) -> list[list[int]]:
    parts = (splits.forget_N, splits.retain_N, splits.val_N, splits.test_N)
    return [part.tolist() for part in parts]


def refusal(
    task: Mapping[str, object], limit: Any = None, dataset: Dataset | None = None
) -> InputError:
    with pytest.raises(InputError) as caught:
        make_splits(dataset or make(), task, limit=limit)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n_test", [0, 200])
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_parts_are_sorted_disjoint_and_complete(
    task: dict[str, object], n_test: int, seed: int
) -> None:
    dataset = make(n_test=n_test, content=seed)
    splits = make_splits(dataset, task, seed=seed)
    for part in (splits.forget_N, splits.retain_N, splits.val_N, splits.test_N):
        assert part.dtype == np.int64
        assert np.all(np.diff(part) > 0)
    assert sorted(chain.from_iterable(rows(splits))) == list(range(len(dataset.labels_N)))


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_test_part_a_fifth_each(seed: int) -> None:
    dataset = make(content=seed)
    splits = make_splits(dataset, CLASS, seed=seed)
    there = np.bincount(dataset.labels_N)
    for rows_N in (splits.val_N, splits.test_N):
        cut = np.bincount(dataset.labels_N[rows_N], minlength=10)
        np.testing.assert_array_equal(cut, np.maximum(1, np.rint(there * 0.2)))


@pytest.mark.parametrize("seed", SEEDS)
def test_beside_a_test_part_a_tenth(seed: int) -> None:
    dataset = make(n_test=200, content=seed)
    splits = make_splits(dataset, CLASS, seed=seed)
    assert splits.test_N.tolist() == list(range(600, 800))
    there = np.bincount(dataset.labels_N[:600])
    cut = np.bincount(dataset.labels_N[splits.val_N], minlength=10)
    np.testing.assert_array_equal(cut, np.maximum(1, np.rint(there * 0.1)))


@pytest.mark.parametrize("n_test", [0, 30])
def test_three_images_of_a_class_are_in_every_part(n_test: int) -> None:
    dataset = make(n_train=30, n_test=n_test)
    assert np.bincount(dataset.labels_N[:30]).tolist() == [3] * 10
    counts = describe(dataset, make_splits(dataset, {"kind": "random", "fraction": 0.1}))
    training = np.add(counts["forget"], counts["retain"])
    assert np.all(training >= 1)
    assert min(counts["val"]) == 1
    assert min(counts["test"]) >= 1


def test_fewer_than_three_images_of_a_class_are_all_trained_on() -> None:
    labels = np.array([0] * 20 + [1] * 2)
    images = np.zeros((22, 1, 2, 2), np.uint8)
    dataset = make_dataset(images, labels, classes="ab", n_train=22, source="made")
    counts = describe(dataset, make_splits(dataset, CLASS | {"classes": [1]}))
    assert counts == {"forget": [0, 2], "retain": [12, 0], "val": [4, 0], "test": [4, 0]}


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_equal_arguments_give_an_equal_split(task: dict[str, object]) -> None:
    once, again = make_splits(make(), task, seed=3), make_splits(make(), dict(task), seed=3)
    assert rows(once) == rows(again)
    assert once.key == again.key


def test_the_ways_to_write_a_task_are_one_task() -> None:
    written = make_splits(make(), {"kind": "data"})
    spelt = {"kind": "data", "fraction": 0.4, "classes": [9, 8, 7, 6, 5]}
    assert make_splits(make(), spelt, limit={}).key == written.key
    assert rows(make_splits(make(), spelt)) == rows(written)
    assert make_splits(make(), {"kind": "class"}).key == make_splits(make(), CLASS).key
    one: dict[str, object] = {"kind": "data", "fraction": 1}
    assert make_splits(make(), one).key == make_splits(make(), one | {"fraction": 1.0}).key


def test_the_key_sees_data_task_seed_and_limit() -> None:
    dataset = make(n_test=100)
    keys = [
        make_splits(dataset, CLASS).key,
        make_splits(make(n_test=100, content=1), CLASS).key,
        make_splits(dataset, {"kind": "class", "classes": [1]}).key,
        make_splits(dataset, {"kind": "data", "classes": [0], "fraction": 1}).key,
        make_splits(dataset, CLASS, seed=1).key,
        make_splits(dataset, CLASS, limit={"train": 300}).key,
        make_splits(dataset, CLASS, limit={"train": 300, "test": 50}).key,
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 8 and int(key, 16) >= 0 for key in keys)


def test_seeds_and_contents_draw_anew() -> None:
    task = {"kind": "random", "fraction": 0.25}
    splits = [make_splits(make(), task, seed=seed) for seed in SEEDS]
    splits.append(make_splits(make(content=1), task))
    for part in ("forget_N", "val_N", "test_N"):
        assert len({tuple(getattr(split, part).tolist()) for split in splits}) == len(splits)


def test_tasks_share_val_and_test() -> None:
    """References of different tasks are comparable: only the forget set differs.

    But if images are requested by id, none of them can be in val or test.
    """
    splits = [make_splits(make(), task) for task in TASKS if task["kind"] != "ids"]
    assert len({tuple(split.val_N.tolist()) for split in splits}) == 1
    assert len({tuple(split.test_N.tolist()) for split in splits}) == 1


def test_the_global_generator_is_neither_used_nor_touched() -> None:
    np.random.seed(0)  # noqa: NPY002
    first = make_splits(make(), {"kind": "data"})
    drawn = np.random.random()  # noqa: NPY002
    assert rows(make_splits(make(), {"kind": "data"})) == rows(first)
    np.random.seed(0)  # noqa: NPY002
    assert np.random.random() == drawn  # noqa: NPY002


def test_a_golden_split() -> None:
    """Splits name references and studies: they must not change between versions."""
    images = np.arange(40, dtype=np.uint8).reshape(10, 1, 2, 2)
    labels = np.arange(10) % 2
    dataset = make_dataset(images, labels, classes="ab", n_train=10, source="made")
    splits = make_splits(dataset, {"kind": "random", "fraction": 0.5})
    assert rows(splits) == [[0, 6, 7], [2, 5, 9], [1, 4], [3, 8]]
    assert splits.key == "d456e6d9"


# Tasks


def test_a_class_task_forgets_all_training_images_of_its_classes() -> None:
    dataset = make()
    splits = make_splits(dataset, {"kind": "class", "classes": [7, 2]})
    assert splits.forgotten == (2, 7)
    assert set(dataset.labels_N[splits.forget_N]) == {2, 7}
    assert not np.isin(dataset.labels_N[splits.retain_N], [2, 7]).any()
    assert np.isin(dataset.labels_N[splits.test_N], [2, 7]).any()


@pytest.mark.parametrize(("classes", "upper"), [(10, range(5, 10)), (5, range(2, 5)), (3, (1, 2))])
def test_a_data_task_forgets_a_share_of_the_upper_half(
    classes: int, upper: range | tuple[int, ...]
) -> None:
    dataset = make(classes=classes)
    splits = make_splits(dataset, {"kind": "data", "classes": None})
    assert splits.forgotten == ()
    assert set(dataset.labels_N[splits.forget_N]) == set(upper)
    training = np.concatenate([splits.forget_N, splits.retain_N])
    pool = int(np.isin(dataset.labels_N[training], list(upper)).sum())
    assert len(splits.forget_N) == round(0.4 * pool)


def test_a_random_task_forgets_a_share_of_all() -> None:
    splits = make_splits(make(), {"kind": "random", "fraction": 0.25})
    training = len(splits.forget_N) + len(splits.retain_N)
    assert len(splits.forget_N) == round(0.25 * training)
    default = make_splits(make(), {"kind": "random"})
    assert len(default.forget_N) == round(0.1 * training)


def test_numbers_of_numpy_are_numbers() -> None:
    task = {"kind": "class", "classes": list(np.array([0]))}
    limit = {"train": np.int64(300)}
    splits = make_splits(make(), task, seed=np.int64(0), limit=limit)  # type: ignore[arg-type]
    assert splits.key == make_splits(make(), CLASS, limit={"train": 300}).key


BAD_TASKS: dict[str, tuple[dict[str, object], str, list[str]]] = {
    "no kind": ({}, "task.kind", ["unknown", "class, data, random"]),
    "unknown kind": ({"kind": "clas"}, "task.kind", ["did you mean 'class'"]),
    "kind of no text": ({"kind": ["class"]}, "task.kind", ["unknown"]),
    "unknown key": ({"kind": "class", "clases": [0]}, "task.clases", ["did you mean 'classes'"]),
    "key of another kind": (CLASS | {"fraction": 0.5}, "task.fraction", ["a class task"]),
    "class too high": (CLASS | {"classes": [10]}, "task.classes", ["0..9", "a, b, c", "10"]),
    "class below": (CLASS | {"classes": [-1]}, "task.classes", ["0..9"]),
    "class of text": (CLASS | {"classes": ["cat"]}, "task.classes", ["'cat'", "0..9"]),
    "class of float": (CLASS | {"classes": [1.0]}, "task.classes", ["0..9"]),
    "class of truth": (CLASS | {"classes": [True]}, "task.classes", ["0..9"]),
    "class of list": (CLASS | {"classes": [[0]]}, "task.classes", ["0..9"]),
    "classes of text": (CLASS | {"classes": "0"}, "task.classes", ["for example [0]"]),
    "classes of number": (CLASS | {"classes": 0}, "task.classes", ["for example [0]"]),
    "class twice": (CLASS | {"classes": [1, 0, 1]}, "task.classes", ["twice", "once"]),
    "no class": (CLASS | {"classes": []}, "task.classes", ["empty", "at least one"]),
    "all classes": (
        CLASS | {"classes": list(range(10))},
        "task.classes",
        ["all classes", "leave at least one"],
    ),
    "all samples": ({"kind": "random", "fraction": 1}, "task", ["every training image"]),
    "fraction zero": ({"kind": "random", "fraction": 0}, "task.fraction", ["above 0"]),
    "fraction above": ({"kind": "data", "fraction": 1.01}, "task.fraction", ["at most 1"]),
    "fraction below": ({"kind": "data", "fraction": -0.1}, "task.fraction", ["above 0"]),
    "fraction NaN": ({"kind": "data", "fraction": float("nan")}, "task.fraction", ["a number"]),
    "fraction text": ({"kind": "data", "fraction": "0.4"}, "task.fraction", ["a number"]),
    "fraction truth": ({"kind": "data", "fraction": True}, "task.fraction", ["a number"]),
    "fraction small": (
        {"kind": "random", "fraction": 0.0001},
        "task.fraction",
        ["forgets none of 3", "forgets one"],
    ),
}


@pytest.mark.parametrize("case", BAD_TASKS)
def test_bad_tasks(case: str) -> None:
    task, key, said = BAD_TASKS[case]
    error = refusal(task)
    assert error.key == key
    for words in said:
        assert words in str(error)


def test_a_class_without_training_images_cannot_be_forgotten() -> None:
    images, labels = np.zeros((20, 1, 2, 2), np.uint8), np.arange(20) % 2
    dataset = make_dataset(images, labels, classes="abc", n_train=20, source="made")
    error = refusal({"kind": "class", "classes": [2]}, dataset=dataset)
    assert error.key == "task.classes"
    assert "no training image is of c" in str(error)


def test_forgetting_all_classes_there_are_leaves_nothing() -> None:
    images, labels = np.zeros((20, 1, 2, 2), np.uint8), np.arange(20) % 2
    dataset = make_dataset(images, labels, classes="abc", n_train=20, source="made")
    assert refusal({"kind": "class", "classes": [0, 1]}, dataset=dataset).key == "task"


# Limits


@pytest.mark.parametrize("seed", SEEDS)
def test_limits_take_random_samples_of_both_parts(seed: int) -> None:
    dataset = make(n_test=200)
    splits = make_splits(dataset, CLASS, seed=seed, limit={"train": 300, "test": 50})
    training = np.concatenate([splits.forget_N, splits.retain_N, splits.val_N])
    assert len(set(training)) == len(training) == 300
    assert training.max() < 600
    assert training.max() > 310  # not merely the first ones
    assert len(splits.test_N) == 50
    assert splits.test_N.min() >= 600
    assert 15 <= len(splits.val_N) <= 45


def test_a_limit_without_a_test_part_comes_before_the_cut() -> None:
    splits = make_splits(make(), CLASS, limit={"train": 300})
    parts = rows(splits)
    assert sum(map(len, parts)) == 300
    assert 50 <= len(splits.test_N) <= 70


def test_a_limit_on_one_part_leaves_the_other_whole() -> None:
    dataset = make(n_test=200)
    whole = make_splits(dataset, CLASS)
    splits = make_splits(dataset, CLASS, limit={"test": 50})
    assert rows(splits)[:3] == rows(whole)[:3]
    assert len(make_splits(dataset, CLASS, limit={"train": 300}).test_N) == 200


def test_a_larger_limit_holds_the_smaller_sample() -> None:
    samples = []
    for count in (200, 400):
        splits = make_splits(make(), CLASS, limit={"train": count})
        samples.append(set(chain.from_iterable(rows(splits))))
    assert samples[0] < samples[1]


@pytest.mark.parametrize(
    ("limit", "key", "said"),
    [
        ({"train": 601}, "data.limit.train", "1..600"),
        ({"train": 0}, "data.limit.train", "1..600"),
        ({"train": -5}, "data.limit.train", "1..600"),
        ({"train": "all"}, "data.limit.train", "whole number"),
        ({"train": 100.5}, "data.limit.train", "whole number"),
        ({"train": True}, "data.limit.train", "whole number"),
        ({"test": 201}, "data.limit.test", "1..200"),
        ({"test": 0}, "data.limit.test", "1..200"),
        ({"trian": 100}, "data.limit.trian", "did you mean 'train'"),
        ({"val": 100}, "data.limit.val", "train, test"),
        (100, "data.limit", "mapping"),
        ({"train": 4}, "data.limit.train", "more images"),
    ],
)
def test_bad_limits(limit: object, key: str, said: str) -> None:
    error = refusal(CLASS, limit=limit, dataset=make(n_test=200))
    assert error.key == key
    assert said in str(error)


def test_a_test_limit_without_a_test_part_is_refused() -> None:
    error = refusal(CLASS, limit={"test": 10})
    assert error.key == "data.limit.test"
    assert "no test part of its own" in str(error)
    assert "data.limit.train" in str(error)


# Display


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_describe_counts_each_class_of_each_part(task: dict[str, object]) -> None:
    dataset = make(n_test=200)
    counts = describe(dataset, make_splits(dataset, task))
    assert list(counts) == ["forget", "retain", "val", "test"]
    assert all(len(part) == 10 for part in counts.values())
    total = np.sum(list(counts.values()), axis=0)
    np.testing.assert_array_equal(total, np.bincount(dataset.labels_N))
    assert all(type(count) is int for count in counts["forget"])


SINGLE: list[dict[str, object]] = [  # kinds of which there is no other forget set
    {"kind": "hard", "order": "lowest"},
    {"kind": "noisy"},  # 60 % of the images: there is no second set of this size
    {"kind": "random", "fraction": 0.7},
    {"kind": "data", "classes": [1], "fraction": 1},
]


@pytest.mark.parametrize("task", [each for each in TASKS if each not in SINGLE], ids=str)
def test_another_forget_set_shares_no_image_with_the_first(task: dict[str, object]) -> None:
    dataset = make()
    first = make_splits(dataset, task, seed=3)
    others = [other_splits(dataset, first, 1, seed=3)]
    assert others[0].key != first.key
    if task["kind"] != "data":  # of 40 % of a class there are two sets
        with suppress(InputError):
            others.append(other_splits(dataset, first, 2, seed=3))
    seen = first.forget_N
    for other in others:
        assert len(other.forget_N)
        assert not np.isin(other.forget_N, seen).any()
        assert other.val_N.tolist() == first.val_N.tolist()
        assert other.test_N.tolist() == first.test_N.tolist()
        assert sorted(chain.from_iterable(rows(other))) == list(range(len(dataset.labels_N)))
        assert other.truth_N.tolist() == dataset.labels_N[other.forget_N].tolist()
        assert np.isin(other.known_N, other.retain_N).all()
        seen = np.concatenate((seen, other.forget_N))
    assert rows(other_splits(dataset, first, 1, seed=3)) == rows(others[0])


def test_another_forget_set_is_of_the_same_kind() -> None:
    dataset = make()
    asked = make_splits(dataset, {"kind": "ids", "ids": [599, 3, 41]})
    other = other_splits(dataset, asked, 1)
    assert sorted(other.truth_N) == sorted(asked.truth_N)  # as many images of each class
    drawn = make_splits(dataset, {"kind": "random", "fraction": 0.25})
    assert len(other_splits(dataset, drawn, 3).forget_N) == len(drawn.forget_N)
    whole = make_splits(dataset, {"kind": "class", "classes": [7, 2]})
    assert other_splits(dataset, whole, 1).forgotten == (3, 4)
    assert other_splits(dataset, whole, 4).forgotten == (0, 1)


@pytest.mark.parametrize("task", SINGLE, ids=str)
def test_where_there_is_no_other_forget_set_it_says_so(task: dict[str, object]) -> None:
    dataset = make()
    with pytest.raises(InputError, match=r"task\.kind|task\.classes"):
        other_splits(dataset, make_splits(dataset, task), 1)


def test_the_last_class_has_no_successor() -> None:
    dataset = make(classes=3)
    splits = make_splits(dataset, CLASS)
    assert [other_splits(dataset, splits, n).forgotten for n in (1, 2)] == [(1,), (2,)]
    with pytest.raises(InputError, match="only 2 other forget sets"):
        other_splits(dataset, splits, 3)


def test_a_forget_set_that_no_search_uses_is_measured_as_a_whole() -> None:
    digits = SOURCES["digits"]()
    splits = make_splits(digits, {"kind": "random", "fraction": 0.03})
    whole = unsearched(splits)
    tested = evaluation_set(digits, whole, "test")
    assert set(tested.forget.ids_N) == set(splits.forget_N)
    assert len(evaluation_set(digits, splits, "test").forget.ids_N) < len(splits.forget_N)
    # What was measured on a part is not taken for the whole.
    assert whole.key != splits.key


def test_images_that_a_trained_model_knows_are_never_held_out() -> None:
    digits = SOURCES["digits"]()
    task = {"kind": "ids", "ids": [3, 8]}
    own_test = replace(digits, n_train=1400)
    splits = make_splits(own_test, task, trained=True)
    known = np.concatenate((splits.forget_N, splits.retain_N))
    assert sorted(known) == list(range(1400))
    held_out = np.concatenate((splits.val_N, splits.test_N))
    assert sorted(held_out) == list(range(1400, len(digits.labels_N)))
    assert abs(len(splits.val_N) - len(splits.test_N)) <= 10
    assert splits.key != make_splits(own_test, task).key
    with pytest.raises(InputError, match=r"data\.test.*never seen"):
        make_splits(digits, task, trained=True)
