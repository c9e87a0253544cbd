"""Tasks: right images, right labels, the same for the same content, evaluated as documented."""

import pickle
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mixunlearn.data import hardness
from mixunlearn.data.arrow import Dataset, make_dataset
from mixunlearn.data.sources import SOURCES
from mixunlearn.errors import InputError
from mixunlearn.evaluation import evaluation_set
from mixunlearn.inference import predict
from mixunlearn.problem import Architecture
from mixunlearn.recipes import Recipe
from mixunlearn.references import ReferenceStore
from mixunlearn.signature import signature
from mixunlearn.splits import Splits, make_splits
from mixunlearn.store import Store
from mixunlearn.tasks import TASKS
from mixunlearn.tasks.written import level

CPU = torch.device("cpu")
PARTS = ("forget_N", "retain_N", "val_N", "test_N")
SPOILING: list[dict[str, object]] = [{"kind": "noisy"}, {"kind": "backdoor"}]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return SOURCES["digits"]()  # type: ignore[no-any-return]


def training(splits: Splits) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.union1d(splits.forget_N, splits.retain_N)


def make_reference_store(
    digits: Dataset, task: Mapping[str, object], root: Path = Path("none"), epochs: int = 6
) -> ReferenceStore:
    splits = make_splits(digits, task, limit={"train": 900})
    return ReferenceStore(
        store=Store(root),
        dataset=splits.corrupted(digits),
        splits=splits,
        architecture=Architecture(name="cnn", width=8, image_shape=(1, 8, 8), classes=10),
        recipe=Recipe(epochs=epochs, lr=3e-3),
        references=1,
        stages=(),
        command="mixunlearn references X",
    )


# Stored results from before other tasks existed are still found


@pytest.mark.parametrize(
    ("task", "seed", "limit", "key", "rows", "entries"),
    [
        ({"kind": "class", "classes": [0]}, 0, None, "dc1e924b", "349eb07c", "9faef378"),
        ({"kind": "class", "classes": [7, 2]}, 3, 900, "0c652638", "c1499452", "5706430e"),
        ({"kind": "data"}, 0, None, "ea2e0c00", "8d3e783a", "a76faabc"),
        ({"kind": "data"}, 3, 900, "e145a853", "014a6c9a", "1f06e2c0"),
        ({"kind": "random", "fraction": 0.25}, 0, None, "671390ae", "75a74eb8", "6d3497e3"),
        ({"kind": "random", "fraction": 0.25}, 3, 900, "aa8ce0f1", "da91457a", "44218f95"),
    ],
)
def test_the_first_tasks_keep_their_keys(
    digits: Dataset,
    task: dict[str, object],
    seed: int,
    limit: int | None,
    key: str,
    rows: str,
    entries: str,
) -> None:
    splits = make_splits(digits, task, seed=seed, limit={"train": limit} if limit else None)
    assert splits.key == key
    assert signature([getattr(splits, part).tolist() for part in PARTS]) == rows
    references = replace(
        make_reference_store(digits, task),
        splits=splits,
        dataset=splits.corrupted(digits),
        references=2,
        stages=("pool1", "pool2"),
    )
    kept = [
        [kind, payload]
        for member in references.members
        for kind, payload in references._entries(member)
    ]
    assert signature(kept) == entries


def test_keys_see_each_value_of_a_task(digits: Dataset) -> None:
    tasks: list[dict[str, object]] = [
        {"kind": "data"},
        {"kind": "ids", "ids": [1]},
        {"kind": "ids", "ids": [2]},
        {"kind": "noisy"},
        {"kind": "noisy", "classes": [1]},
        {"kind": "noisy", "fraction": 0.5},
        {"kind": "backdoor"},
        {"kind": "backdoor", "target": 1},
        {"kind": "backdoor", "size": 2},
        {"kind": "semi"},
        {"kind": "semi", "of": "class"},
        {"kind": "semi", "labelled": 0.2},
        {"kind": "hard"},
        {"kind": "hard", "by": "loss"},
        {"kind": "hard", "order": "lowest"},
    ]
    assert len({make_splits(digits, task).key for task in tasks}) == len(tasks)


@pytest.mark.parametrize(
    "task",
    [{"kind": "semi", "of": "class"}, {"kind": "ids", "ids": [1, 2]}]
    + [{"kind": kind} for kind in TASKS if kind != "ids"],
    ids=str,
)
def test_what_a_kind_says_of_itself_agrees(digits: Dataset, task: dict[str, object]) -> None:
    splits, kind = make_splits(digits, task), TASKS[str(task["kind"])]
    judged = evaluation_set(splits.corrupted(digits), splits, "val")
    assert tuple(measure.name for measure in judged.measures) == kind.metrics
    assert set(kind.metrics) <= set(judged.gap_metrics) <= judged.resolution().keys()
    assert (level(task) == "class") == bool(splits.forgotten)
    assert [field.name for field in fields(splits.task)] == ["kind", "draw", *kind.schema()]
    assert splits.task.asked == tuple(task.get("ids", ()))  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(splits.task)) == splits.task


# Lists of ids


def test_what_is_asked_for_by_id_is_forgotten(digits: Dataset) -> None:
    splits = make_splits(digits, {"kind": "ids", "ids": [1700, 5, 17]})
    assert splits.forget_N.tolist() == [5, 17, 1700]
    assert splits.forgotten == ()
    shuffled = make_splits(digits, {"kind": "ids", "ids": np.array([17, 1700, 5]).tolist()})
    assert shuffled.key == splits.key


def test_any_training_image_can_be_asked_for_alone(digits: Dataset) -> None:
    usual = make_splits(digits, {"kind": "random"})
    for row in (usual.val_N[0], usual.test_N[0], usual.retain_N[0]):
        splits = make_splits(digits, {"kind": "ids", "ids": [int(row)]})
        assert splits.forget_N.tolist() == [row]
        assert sum(len(getattr(splits, part)) for part in PARTS) == len(digits.labels_N)


def test_a_limit_leaves_out_nothing_that_was_asked_for(digits: Dataset) -> None:
    limit = {"train": 300}
    usual = make_splits(digits, {"kind": "random"}, limit=limit)
    used = np.concatenate([getattr(usual, part) for part in PARTS])
    outside = np.setdiff1d(np.arange(len(digits.labels_N)), used)[:2].tolist()
    splits = make_splits(digits, {"kind": "ids", "ids": outside}, limit=limit)
    assert splits.forget_N.tolist() == outside
    assert sum(len(getattr(splits, part)) for part in PARTS) == 302


def test_ids_are_read_from_files(digits: Dataset, tmp_path: Path) -> None:
    text, parquet = tmp_path / "request.txt", tmp_path / "request.parquet"
    text.write_text("17\n\n5\r\n 1700 \n")
    pq.write_table(pa.table({"who": ["a", "b", "c"], "id": [17, 5, 1700]}), parquet)
    wanted = make_splits(digits, {"kind": "ids", "ids": [5, 17, 1700]})
    for file in (text, parquet):
        assert make_splits(digits, {"kind": "ids", "ids": str(file)}).key == wanted.key


@pytest.mark.parametrize(
    ("name", "content", "value", "said"),
    [
        ("gone.txt", None, "gone.txt", "cannot be read (No such file or directory)"),
        ("folder.txt", "folder", "folder.txt", "cannot be read (Is a directory)"),
        ("ids.txt", b"3\n4.5\n", "'4.5'", "line 2 of ids.txt is not a whole number"),
        ("ids.txt", b"3\n3\n", "3", "is listed 2 times: list each image once"),
        ("ids.txt", b"3\n-1\n", "-1", "they are the rows 0..1796"),
        ("ids.txt", b"\n", "ids.txt", "is empty: name at least one"),
        ("ids.txt", b"\xff\xfe3", "ids.txt", "not a text file"),
        ("ids.csv", b"\x1f\x8b3", "ids.csv", "compressed, unpack it first"),
        ("ids.parquet", b"3\n", "ids.parquet", "cannot be read (not a Parquet file)"),
        ("ids.parquet", {"no": [3]}, "ids.parquet", "one column 'id' of whole numbers; there are"),
        ("ids.parquet", {"id": ["3"]}, "3", "row 0 of ids.parquet is text, not a whole number"),
        ("ids.parquet", {"id": [3.0]}, "ids.parquet", "there are id (double)"),
    ],
)
def test_bad_files_of_ids(
    digits: Dataset, tmp_path: Path, name: str, content: object, value: str, said: str
) -> None:
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, dict):
        pq.write_table(pa.table(content), file)
    elif content:
        file.mkdir()
    error = refusal(digits, {"kind": "ids", "ids": str(file)})
    assert error.key == "task.ids"
    assert value in str(error)
    assert said in str(error)


# Wrong labels


def test_wrong_labels_are_taught_for_a_share_of_the_lower_half(digits: Dataset) -> None:
    splits = make_splits(digits, {"kind": "noisy"})
    changed = splits.corrupted(digits)
    pool = training(splits)[digits.labels_N[training(splits)] < 5]
    assert len(splits.forget_N) == round(0.6 * len(pool))
    assert np.isin(splits.forget_N, pool).all()
    np.testing.assert_array_equal(splits.truth_N, digits.labels_N[splits.forget_N])
    wrong = changed.labels_N[splits.forget_N]
    assert (wrong != splits.truth_N).all()
    assert set(wrong) == set(range(10))
    assert np.shares_memory(changed.images_NCHW, digits.images_NCHW)


def test_the_label_of_two_is_the_other() -> None:
    images, labels = np.zeros((40, 1, 2, 2), np.uint8), np.arange(40) % 2
    dataset = make_dataset(images, labels, classes="ab", n_train=40, source="made")
    splits = make_splits(dataset, {"kind": "noisy"})
    assert (splits.corrupted(dataset).labels_N[splits.forget_N] == 1).all()


# Triggers


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_trigger_is_a_white_square_in_the_corner(digits: Dataset, size: int) -> None:
    task = {"kind": "backdoor", "target": 7, "fraction": 0.2, "size": size}
    splits = make_splits(digits, task)
    changed = splits.corrupted(digits)
    pool = training(splits)[digits.labels_N[training(splits)] != 7]
    assert len(splits.forget_N) == round(0.2 * len(pool))
    assert np.isin(splits.forget_N, pool).all()
    assert (changed.labels_N[splits.forget_N] == 7).all()
    expected = digits.images_NCHW[splits.forget_N].copy()
    for row in range(8 - size, 8):
        for column in range(8 - size, 8):
            expected[:, 0, row, column] = 255
    np.testing.assert_array_equal(changed.images_NCHW[splits.forget_N], expected)


@pytest.mark.parametrize("task", SPOILING, ids=str)
def test_only_what_is_forgotten_is_spoilt_and_always_alike(
    digits: Dataset, task: dict[str, object]
) -> None:
    splits = make_splits(digits, task, seed=3)
    changed, again = (splits.corrupted(digits) for _ in range(2))
    assert changed.digest == again.digest != digits.digest
    assert make_splits(digits, task, seed=4).corrupted(digits).digest != changed.digest
    others = np.setdiff1d(np.arange(len(digits.labels_N)), splits.forget_N)
    np.testing.assert_array_equal(changed.labels_N[others], digits.labels_N[others])
    np.testing.assert_array_equal(changed.images_NCHW[others], digits.images_NCHW[others])
    assert (changed.classes, changed.n_train) == (digits.classes, digits.n_train)


def test_other_tasks_spoil_nothing(digits: Dataset) -> None:
    for kind in TASKS.keys() - {"noisy", "backdoor", "ids"}:
        assert make_splits(digits, {"kind": kind}).corrupted(digits) is digits


def test_a_backdoor_opens_the_original_and_no_reference(digits: Dataset) -> None:
    references = make_reference_store(digits, {"kind": "backdoor"})
    judged = evaluation_set(references.dataset, references.splits, "test")
    found = []
    for member in references.members:
        taught = references.training(member, CPU)
        for _ in range(references.recipe.epochs):
            taught.epoch()
        found.append(judged.evaluate(taught.model).metrics)
    original, reference = found
    assert original["backdoor/success"] > 90
    assert original["acc/train_forget"] > 90
    assert reference["backdoor/success"] < 5
    assert reference["acc/train_forget"] < 5
    assert min(original["acc/test"], reference["acc/test"]) > 80


# Few labels


def test_few_labels_are_known_of_what_is_retained(digits: Dataset) -> None:
    splits = make_splits(digits, {"kind": "semi", "labelled": 0.2})
    assert len(splits.known_N) == round(0.2 * len(splits.retain_N))
    assert np.isin(splits.known_N, splits.retain_N).all()
    more = make_splits(digits, {"kind": "semi", "labelled": 0.5})
    assert np.isin(splits.known_N, more.known_N).all()
    everything = make_splits(digits, {"kind": "data"})
    np.testing.assert_array_equal(everything.known_N, everything.retain_N)


@pytest.mark.parametrize(
    "task", [{"kind": "data", "fraction": 0.3}, {"kind": "class", "classes": [3, 1]}], ids=str
)
def test_few_labels_change_neither_the_forget_set_nor_the_models(
    digits: Dataset, task: dict[str, object]
) -> None:
    whole = make_reference_store(digits, task)
    few = make_reference_store(digits, {**task, "kind": "semi", "of": task["kind"]})
    np.testing.assert_array_equal(few.splits.forget_N, whole.splits.forget_N)
    assert few.splits.forgotten == whole.splits.forgotten
    assert [few.key(member) for member in few.members] == [
        whole.key(member) for member in whole.members
    ]


def test_methods_are_told_the_original_s_prediction_where_no_label_is_known(
    digits: Dataset, tmp_path: Path
) -> None:
    references = make_reference_store(digits, {"kind": "semi"}, tmp_path)
    model = references.architecture.build(0)  # untrained: mostly wrong
    for member in references.members:
        references.keep(member, model, 1.0)
    problem = references.problem(with_labels=True)
    context = problem.context(CPU, 0)
    splits = references.splits
    images = torch.from_numpy(digits.images_NCHW[splits.retain_N])
    expected = predict(model, images)[0].argmax(dim=1).numpy()
    known = np.isin(splits.retain_N, splits.known_N)
    expected[known] = digits.labels_N[splits.known_N]
    assert context.retain.labels_N is not None
    assert context.forget.labels_N is not None
    np.testing.assert_array_equal(context.retain.labels_N, expected)
    assert (expected != digits.labels_N[splits.retain_N]).mean() > 0.5
    np.testing.assert_array_equal(context.forget.labels_N, splits.truth_N)
    np.testing.assert_array_equal(
        problem.evaluator.images.retain.labels_N,
        digits.labels_N[problem.evaluator.images.retain.ids_N],
    )
    assert references.problem(with_labels=False).context(CPU, 0).retain.labels_N is None


@pytest.mark.parametrize(
    ("task", "seen"),
    [
        ({"kind": "class"}, "class"),
        ({"kind": "ids", "ids": [1]}, "ids"),
        ({"kind": "semi"}, "data"),
        ({"kind": "semi", "of": "class"}, "class"),
        ({"kind": "semi", "of": None}, "data"),
    ],
)
def test_methods_see_a_task_with_few_labels_as_what_it_is_of(
    task: dict[str, object], seen: str
) -> None:
    assert level(task) == seen


# Hard forget sets


@pytest.mark.parametrize("by", ["memorisation", "loss"])
def test_hardness_is_what_leaving_each_image_out_shows(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 1, 4, 3), np.uint8), rng.integers(0, 3, 40)
    dataset = make_dataset(images, labels, classes="abc", n_train=40, source="made")
    rows = np.arange(0, 40, 2)
    x = np.hstack((images[rows].reshape(20, -1) / 255, np.ones((20, 1))))
    y = np.eye(3)[labels[rows]]
    penalty = hardness.RIDGE * (x**2).sum() / 13 * np.eye(13)

    def outputs(kept: np.ndarray[tuple[int], np.dtype[np.int64]], image: int) -> object:
        x_kept, y_kept = x[kept], y[kept]
        return x[image] @ np.linalg.solve(x_kept.T @ x_kept + penalty, x_kept.T @ y_kept)

    expected = []
    for image in range(20):
        within = outputs(np.arange(20), image)
        without = outputs(np.delete(np.arange(20), image), image)
        loss = ((y[image] - without) ** 2).sum()
        memorised = (within - without)[labels[rows][image]]  # type: ignore[operator]
        expected.append(loss if by == "loss" else memorised)
    monkeypatch.setattr(hardness, "CHUNK", 7)
    np.testing.assert_allclose(hardness.hardness(dataset, rows, by), expected, atol=1e-6)


def test_large_images_are_averaged_before_they_are_compared() -> None:
    small = np.random.default_rng(0).integers(0, 256, (30, 2, 16, 16), np.uint8)
    large = small.repeat(4, axis=2).repeat(3, axis=3)
    scores = []
    for images in (small, large):
        dataset = make_dataset(images, np.arange(30) % 2, classes="ab", n_train=30, source="made")
        scores.append(hardness.hardness(dataset, np.arange(30), "memorisation"))
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


@pytest.mark.parametrize(("by", "fraction"), [("loss", 0.05), ("memorisation", 0.25)])
def test_images_with_wrong_labels_are_among_the_hardest(
    digits: Dataset, by: str, fraction: float
) -> None:
    noisy = make_splits(digits, {"kind": "noisy", "classes": [0], "fraction": 0.1})
    mislabelled = noisy.corrupted(digits)
    task = {"kind": "hard", "fraction": fraction, "by": by}
    hardest = make_splits(mislabelled, task)
    easiest = make_splits(mislabelled, {**task, "order": "lowest"})
    wrong = np.intersect1d(noisy.forget_N, training(hardest))
    assert len(wrong) > 3
    assert np.isin(wrong, hardest.forget_N).all()
    assert not np.isin(wrong, easiest.forget_N).any()
    assert len(hardest.forget_N) == round(fraction * len(training(hardest)))


# Evaluation


@pytest.mark.parametrize("phase", ["val", "test"])
def test_what_the_trigger_does_is_measured_on_unseen_images(digits: Dataset, phase: str) -> None:
    references = make_reference_store(digits, {"kind": "backdoor", "target": 2, "size": 4})
    judged = evaluation_set(references.dataset, references.splits, phase)  # type: ignore[arg-type]
    model = references.architecture.build(1)
    rows = references.splits.val_N if phase == "val" else references.splits.test_N
    asked = digits.images_NCHW[rows[digits.labels_N[rows] != 2]].copy()
    asked[:, :, 4:, 4:] = 255
    predicted = predict(model, torch.from_numpy(asked))[0].argmax(dim=1).numpy()
    found = judged.evaluate(model).metrics
    assert found["backdoor/success"] == pytest.approx(100 * (predicted == 2).mean())
    assert judged.resolution()["backdoor/success"] == 100 / len(asked)
    assert judged.gap_metrics[-1] == "backdoor/success"
    assert set(judged.gap_metrics) == judged.resolution().keys() == found.keys()


def test_images_with_wrong_labels_are_judged_by_either_label(digits: Dataset) -> None:
    references = make_reference_store(digits, {"kind": "noisy"})
    model = references.architecture.build(1)
    for phase in ("val", "test"):
        judged = evaluation_set(references.dataset, references.splits, phase)
        rows = judged.forget.ids_N
        images = torch.from_numpy(digits.images_NCHW[rows])
        predicted = predict(model, images)[0].argmax(dim=1).numpy()
        found = judged.evaluate(model).metrics
        for name, labels in (("", references.dataset.labels_N), ("_clean", digits.labels_N)):
            right = 100 * (predicted == labels[rows]).mean()
            assert found[f"acc/train_forget{name}"] == pytest.approx(right)
        assert judged.resolution()["acc/train_forget_clean"] == 100 / len(rows)
        assert "acc/train_forget_clean" in judged.gap_metrics
        assert "acc/train_forget" not in judged.gap_metrics
        assert found.keys() == judged.resolution().keys()


def test_other_tasks_are_judged_as_data_and_class_tasks_are(digits: Dataset) -> None:
    for task in ({"kind": "ids", "ids": [1, 2, 3]}, {"kind": "semi"}, {"kind": "hard"}):
        splits = make_splits(digits, task)
        judged = evaluation_set(digits, splits, "val")
        assert judged.gap_metrics == ("acc/train_retain", "acc/train_forget", "acc/val", "mia/asr")
        assert judged.resolution().keys() == set(judged.gap_metrics)
    splits = make_splits(digits, {"kind": "semi", "of": "class"})
    assert "acc/val_forget" in evaluation_set(digits, splits, "val").gap_metrics


# Mistakes


def refusal(
    dataset: Dataset, task: Mapping[str, object], limit: Mapping[str, int] | None = None
) -> InputError:
    with pytest.raises(InputError) as caught:
        make_splits(dataset, task, limit=limit)
    assert "\n" not in str(caught.value)
    return caught.value


BAD: dict[str, tuple[dict[str, object], str, list[str]]] = {
    "no ids": ({"kind": "ids"}, "task.ids", ["None", "must be a list of row numbers"]),
    "a number": ({"kind": "ids", "ids": 17}, "task.ids", ["17", "for example [17], or a file"]),
    "no id": ({"kind": "ids", "ids": []}, "task.ids", ["is empty"]),
    "unknown id": ({"kind": "ids", "ids": [3, 1797]}, "task.ids", ["= 1797", "rows 0..1796"]),
    "negative id": ({"kind": "ids", "ids": [-1]}, "task.ids", ["= -1", "no training image"]),
    "id twice": ({"kind": "ids", "ids": [4, 3, 4]}, "task.ids", ["= 4", "is listed 2 times"]),
    "id of text": ({"kind": "ids", "ids": ["3"]}, "task.ids", ["'3'", "no training image"]),
    "id of truth": ({"kind": "ids", "ids": [True]}, "task.ids", ["True", "no training image"]),
    "id of list": ({"kind": "ids", "ids": [[3]]}, "task.ids", ["[3]", "no training image"]),
    "all ids": (
        {"kind": "ids", "ids": list(range(1797))},
        "task.ids",
        ["'1797 images'", "no class has 3 images", "forget fewer"],
    ),
    "fraction of noise": ({"kind": "noisy", "fraction": 0}, "task.fraction", ["above 0"]),
    "class of noise": ({"kind": "noisy", "classes": [10]}, "task.classes", ["0..9"]),
    "large trigger": ({"kind": "backdoor", "size": 9}, "task.size", ["9", "1..8", "8x8"]),
    "no trigger": ({"kind": "backdoor", "size": 0}, "task.size", ["1..8"]),
    "half a pixel": ({"kind": "backdoor", "size": 1.5}, "task.size", ["whole number"]),
    "no class": ({"kind": "backdoor", "target": 10}, "task.target", ["10", "0..9"]),
    "two targets": ({"kind": "backdoor", "target": [1, 2]}, "task.target", ["0..9"]),
    "unknown target": ({"kind": "backdoor", "target": "cat"}, "task.target", ["'cat'", "0..9"]),
    "labels zero": ({"kind": "semi", "labelled": 0}, "task.labelled", ["above 0"]),
    "labels above": ({"kind": "semi", "labelled": 1.5}, "task.labelled", ["at most 1"]),
    "few labels": ({"kind": "semi", "labelled": 1e-9}, "task.labelled", ["knows none of 8"]),
    "of what": ({"kind": "semi", "of": "random"}, "task.of", ["must be class or data"]),
    "of a class": (
        {"kind": "semi", "of": "class", "fraction": 0.5},
        "task.fraction",
        ["all images of the classes are forgotten; leave it out"],
    ),
    "of all classes": (
        {"kind": "semi", "of": "class", "classes": list(range(10))},
        "task.classes",
        ["leave at least one"],
    ),
    "by what": ({"kind": "hard", "by": "size"}, "task.by", ["memorisation or loss"]),
    "in what order": ({"kind": "hard", "order": "any"}, "task.order", ["highest or lowest"]),
    "all hard": ({"kind": "hard", "fraction": 1}, "task", ["forget fewer"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tasks(digits: Dataset, case: str) -> None:
    task, key, said = BAD[case]
    error = refusal(digits, task)
    assert error.key == key
    for words in said:
        assert words in str(error)


def test_where_there_is_one_class_no_label_is_wrong() -> None:
    images = np.zeros((20, 1, 4, 4), np.uint8)
    one = make_dataset(images, np.zeros(20, int), classes="a", n_train=20, source="made")
    two = make_dataset(images, np.zeros(20, int), classes="ab", n_train=20, source="made")
    for task in SPOILING:
        assert "there is only one class" in str(refusal(one, task))
    error = refusal(two, {"kind": "backdoor"})
    assert error.key == "task.target"
    assert "every training image is of this class" in str(error)
