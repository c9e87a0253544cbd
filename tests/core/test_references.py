"""The store of originals and references, and what is evaluated with it."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mixunlearn.data import arrow
from mixunlearn.data.arrow import make_dataset
from mixunlearn.errors import DivergedError, InputError, MissingError
from mixunlearn.evaluation import evaluation_set
from mixunlearn.evidence.states import NO_BETTER
from mixunlearn.evidence.verdict import judge
from mixunlearn.inference import predict
from mixunlearn.metrics.table import margins
from mixunlearn.problem import Architecture, Problem
from mixunlearn.references import Member, ReferenceStore
from mixunlearn.signature import canonical
from mixunlearn.splits import make_splits, other_splits
from mixunlearn.store import Store
from mixunlearn.trial import Trial
from tests.problems import make_reference_store, recipe_of

CPU = torch.device("cpu")


def test_nothing_is_missing_once_it_is_filled(references: ReferenceStore) -> None:
    assert references.missing() == []
    assert [member.role for member in references.members] == ["original", "reference", "reference"]


def test_more_references_are_the_only_ones_missing(references: ReferenceStore) -> None:
    missing = replace(references, references=4).missing()
    assert [(member.role, member.seed) for member in missing] == [
        ("reference", 2),
        ("reference", 3),
    ]


def test_more_originals_are_trained_alike_from_other_seeds(references: ReferenceStore) -> None:
    more = replace(references, originals=2)
    assert more.missing() == [Member(role="original", seed=1)]
    assert more.fill() == 1
    first, second = (more.problem(with_labels=True, original=number) for number in (0, 1))
    assert canonical(more.payload(more.original)) == canonical(
        references.payload(references.original)
    )
    name = next(iter(first.original))
    assert not np.array_equal(first.original[name], second.original[name])
    # What methods know of an original is its own.
    assert not np.array_equal(first.forget.probs_NK, second.forget.probs_NK)
    np.testing.assert_array_equal(
        second.forget.probs_NK.argmax(axis=1),
        predict(more.load(more.all_originals[1]), images_of(second))[0].argmax(dim=1).numpy(),
    )


def images_of(problem: Problem) -> torch.Tensor:
    return torch.from_numpy(problem.forget.samples.images_NCHW)


def test_another_forget_set_needs_nothing_to_be_computed_again(
    references: ReferenceStore, tmp_path: Path
) -> None:
    splits = other_splits(references.dataset, references.splits, 1)
    own = replace(references, store=Store(tmp_path), splits=splits, originals=0, references=1)
    own = replace(own, first_reference=2000)
    assert own.missing() == [Member(role="reference", seed=2000)]
    own.fill()
    found = references.problem(with_labels=True).about(splits, own.evaluator("val"))
    # As if the original had been asked about these images.
    original = references.load(references.original)
    assert len(found.forget.samples.ids_N) == len(splits.forget_N)
    for part, rows_N in ((found.forget, splits.forget_N), (found.retain, splits.retain_N)):
        np.testing.assert_array_equal(part.samples.ids_N, rows_N)
        np.testing.assert_array_equal(part.labels_N, references.dataset.labels_N[rows_N])
        images = torch.from_numpy(part.samples.images_NCHW)
        probs_NK, features = predict(original, images, references.stages)
        np.testing.assert_allclose(part.probs_NK, probs_NK, atol=1e-5)
        assert part.features.keys() == features.keys()
        for name, values in features.items():
            np.testing.assert_allclose(part.features[name], values, atol=1e-2)
    assert found.evaluator.images.forgotten == (1,)
    trial = Trial(found, "finetune", {}, 0, CPU)
    trial.unlearn()
    assert own.evaluator("test").evaluate(trial.method.model, 1.0)["time/unlearn_s"] == 1.0


def test_doing_nothing_to_a_request_of_37_images_is_no_better_than_doing_nothing(
    tmp_path: Path,
) -> None:
    """A gap of 2 points to references that differ by 2 points once looked like success."""
    rows = np.random.default_rng(0).choice(800, 37, replace=False)
    task = {"kind": "ids", "ids": sorted(rows.tolist())}
    request = replace(
        make_reference_store(tmp_path, task=task, epochs=2, references=4), originals=4
    )
    request.fill()
    evaluator = request.evaluator("test")
    untouched = [request.evaluation(each, "test").metrics for each in request.all_originals]
    trials = [
        Trial(request.problem(with_labels=True, original=number), "original", {}, number, CPU)
        for number in range(4)
    ]
    unlearned = [evaluator.images.evaluate(trial.method.model).metrics for trial in trials]
    allowed = margins(evaluator.images.gap_metrics, {})
    found = judge(
        {name: [each[name] for each in unlearned] for name in allowed},
        {name: [each[name] for each in untouched] for name in allowed},
        {name: evaluator.references.values(name) for name in allowed},
        allowed,
        cost=0.0,
    )
    assert found.state == NO_BETTER


@pytest.mark.parametrize("kind", ["models", "evaluations", "teachers"])
def test_what_is_damaged_is_missing_and_made_again(
    references: ReferenceStore, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = replace(references, store=Store(tmp_path))
    (tmp_path / kind).mkdir()
    model, seconds = references.load(references.original), references.seconds(references.original)
    other.keep(references.original, model, seconds)
    tensors = next((tmp_path / kind).glob("*/tensors.safetensors"))
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-1])
    assert references.original in other.missing()
    assert other.trained(references.original) == (kind != "models")
    assert len(caplog.records) == 1
    other.keep(references.original, model, seconds)
    assert references.original not in other.missing()
    assert tensors.read_bytes() == whole


def test_a_problem_travels_without_pixels(references: ReferenceStore, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (600, 1, 64, 64), np.uint8)
    labels = np.arange(600) % 10
    made = make_dataset(images, labels, classes=tuple("0123456789"), n_train=600, source="made")
    arrow.write(made, tmp_path / "made.arrow")
    dataset = arrow.read(tmp_path / "made.arrow")
    shape = Architecture(name="convnet", width=4, image_shape=(1, 64, 64), classes=10)
    mapped = replace(
        references,
        store=Store(tmp_path / "store"),
        dataset=dataset,
        splits=make_splits(dataset, {"kind": "class", "classes": [0]}),
        architecture=shape,
        references=1,
        stages=(),
    )
    for member in mapped.members:
        mapped.keep(member, shape.build(0), 1.0)
    problem = mapped.problem(with_labels=True)
    problem.context(CPU, 0)  # what was collected stays here
    weights = sum(array.nbytes for array in problem.original.values())
    assert len(pickle.dumps(problem)) - weights < images.nbytes / 50


def test_samples_are_gathered_once_and_again_in_another_process(references: ReferenceStore) -> None:
    retain = references.problem(with_labels=True).retain.samples
    assert retain.images_NCHW is retain.images_NCHW
    back = pickle.loads(pickle.dumps(retain))
    assert set(vars(back)) == {"dataset", "ids_N"}
    np.testing.assert_array_equal(back.images_NCHW, retain.images_NCHW)
    np.testing.assert_array_equal(back.labels_N, retain.labels_N)


@pytest.mark.parametrize("change", ["recipe", "architecture", "splits"])
def test_other_settings_are_other_models(references: ReferenceStore, change: str) -> None:
    others = {
        "recipe": replace(references, recipe=replace(recipe_of(references), epochs=7)),
        "architecture": replace(references, architecture=replace(references.architecture, width=4)),
        "splits": replace(
            references, splits=replace(references.splits, retain_N=references.splits.retain_N[1:])
        ),
    }
    assert len(others[change].missing()) == 3


def test_a_missing_reference_is_an_error_and_never_a_number(references: ReferenceStore) -> None:
    with pytest.raises(MissingError, match="mixunlearn references X"):
        replace(references, references=3).evaluator("val")


def test_an_empty_store_has_no_problem(references: ReferenceStore) -> None:
    with pytest.raises(MissingError, match=r"teachers .* is missing"):
        replace(references, store=Store(references.store.root / "none")).problem(with_labels=True)


def test_references_never_saw_the_forget_set(references: ReferenceStore) -> None:
    retrained = references.evaluator("test").references
    assert max(retrained.values("acc/train_forget")) == 0
    assert min(retrained.values("acc/test_retain")) > 80
    assert references.evaluation(references.original, "test").metrics["acc/train_forget"] > 90


def test_the_phases_share_no_image(references: ReferenceStore) -> None:
    val, test = (
        evaluation_set(references.dataset, references.splits, phase) for phase in ("val", "test")
    )

    def images(phase: object) -> set[bytes]:
        parts = (getattr(phase, name) for name in ("forget", "retain", "held_out"))
        return {image.tobytes() for part in parts for image in part.images_NCHW}

    shared = images(val) & images(test)
    twins = len(references.dataset.images_NCHW) - len(
        np.unique(references.dataset.images_NCHW, axis=0)
    )
    assert len(shared) <= twins
    sizes = len(val.forget.labels_N) + len(test.forget.labels_N)
    assert sizes == len(references.splits.forget_N)


def test_a_single_forgotten_image_is_judged_in_both_phases(references: ReferenceStore) -> None:
    splits = replace(references.splits, forget_N=references.splits.forget_N[:1])
    for phase in ("val", "test"):
        found = evaluation_set(references.dataset, splits, phase)
        assert len(found.forget.labels_N) == 1


@pytest.mark.parametrize(
    ("kind", "metrics"),
    [
        ("class", ("acc/train_forget", "acc/val_retain", "acc/val_forget", "mia/asr")),
        ("data", ("acc/train_retain", "acc/train_forget", "acc/val", "mia/asr")),
    ],
)
def test_the_average_gap_is_over_the_tasks_table(
    references: ReferenceStore, kind: str, metrics: tuple[str, ...]
) -> None:
    splits = make_splits(references.dataset, {"kind": kind})
    assert evaluation_set(references.dataset, splits, "val").gap_metrics == metrics


def test_a_trial_reports_val_and_never_test(references: ReferenceStore) -> None:
    trial = Trial(references.problem(with_labels=True), "mixunlearn", {}, 0, CPU)
    names = trial.epoch().keys()
    assert {"acc/val", "acc/val_retain", "mia/asr", "div/js", "gap/avg", "z/mia/asr"} <= names
    assert {"train/loss", "time/unlearn_s", "time/ratio_to_retrain"} <= names
    assert not any("test" in name for name in names)
    assert set(references.val_metrics) == {
        name for name in names if name.startswith(("acc/", "mia/", "div/"))
    }


def test_a_trial_that_diverges_says_so(references: ReferenceStore) -> None:
    problem = references.problem(with_labels=True)
    broken = {name: np.full_like(array, np.nan) for name, array in problem.original.items()}
    trial = Trial(replace(problem, original=broken), "finetune", {}, 0, CPU)
    with pytest.raises(DivergedError, match="lower the learning rate"):
        trial.epoch()


def test_a_trial_whose_weights_or_outputs_are_no_numbers_fails(references: ReferenceStore) -> None:
    trial = Trial(references.problem(with_labels=True), "original", {}, 0, CPU)
    weight = dict(trial.method.model.named_parameters())["head.5.bias"]
    with torch.no_grad():
        weight[3] = torch.inf  # the loss of `original` does not depend on it
    with pytest.raises(DivergedError, match=r"head\.5\.bias is not finite: diverged"):
        trial.problem.evaluator.evaluate(trial.method.model, 1.0)


def test_members_that_diverge_are_named_and_not_stored(
    references: ReferenceStore, tmp_path: Path
) -> None:
    useless = replace(
        references, store=Store(tmp_path), recipe=replace(recipe_of(references), epochs=2, lr=1e25)
    )
    with pytest.raises(InputError, match=r"references\.lr = 1e\+25: original 0 diverged \(loss = "):
        useless.fill()
    assert len(useless.missing()) == 3
    assert not tmp_path.joinpath("models").exists()


def test_a_useless_member_of_an_earlier_version_is_named(
    references: ReferenceStore, tmp_path: Path
) -> None:
    other = replace(references, store=Store(tmp_path))
    for member in references.members:
        other.keep(member, references.load(member), 7.0)
    probs = np.full_like(references.evaluation(references.original, "val").forget_probs_NK, np.nan)
    payload = other._evaluation_payload(other.members[2], "val")
    record = {"metrics": dict(references.evaluation(references.members[2], "val").metrics)}
    other.store.discard("evaluations", lambda stored: canonical(stored) == canonical(payload))
    other.store.write("evaluations", payload, tensors={"forget_probs_NC": probs}, record=record)
    with pytest.raises(InputError, match=r"reference 1 diverged \(its outputs are not finite\)"):
        other.evaluator("val")


def test_features_beyond_half_precision_keep_their_values(references: ReferenceStore) -> None:
    model, pixels = references.load(references.original), torch.full((2, 1, 8, 8), 255).byte()
    with torch.no_grad():
        model.get_parameter("stages.pool1.0.bias").fill_(1e6)
        model.get_parameter("stages.pool2.0.weight").fill_(0)
    _, found = predict(model, pixels, ("pool1", "pool2"))
    assert {name: features.dtype for name, features in found.items()} == {
        "pool1": torch.float32,
        "pool2": torch.float16,
    }
    torch.testing.assert_close(found["pool1"].max(), torch.tensor(1e6), rtol=1e-3, atol=0)


def test_an_interrupted_training_goes_on_as_if_it_were_not(references: ReferenceStore) -> None:
    member = references.members[1]
    whole, before, after = (references.training(member, CPU) for _ in range(3))
    losses = [whole.epoch()["loss"] for _ in range(3)]
    before.epoch()
    after.load_state_dict(before.state_dict())
    assert [after.epoch()["loss"] for _ in range(2)] == losses[1:]


def test_the_learning_rate_falls_to_nothing_along_a_cosine(references: ReferenceStore) -> None:
    training = references.training(references.members[0], CPU)
    rates = []
    for _ in range(references.recipe.epochs):
        training.epoch()
        rates.append(training.optimizer.param_groups[0]["lr"] / recipe_of(references).lr)
    expected = (
        1 + np.cos(np.pi * np.arange(references.recipe.epochs) / references.recipe.epochs)
    ) / 2
    assert rates == pytest.approx(expected)


def test_filling_trains_what_is_missing_and_tells_of_each_epoch(
    references: ReferenceStore, tmp_path: Path
) -> None:
    few = replace(
        references,
        store=Store(tmp_path),
        recipe=replace(recipe_of(references), epochs=2),
        references=1,
    )
    told: list[tuple[str, int]] = []

    def tell(member: Member, epoch: int, loss: float) -> None:
        assert 0 < loss < 10
        told.append((member.role, epoch))

    assert few.fill(CPU, tell) == 2
    assert told == [("original", 1), ("original", 2), ("reference", 1), ("reference", 2)]
    assert few.missing() == []
    assert few.seconds(few.original) > 0
    assert replace(few, references=2).fill() == 1
    assert few.fill() == 0


def test_filling_trains_no_model_that_lacks_only_its_evaluation(
    references: ReferenceStore, tmp_path: Path
) -> None:
    other = replace(references, store=Store(tmp_path))
    for member in references.members:
        other.keep(member, references.load(member), 7.0)
    other.store.discard("evaluations", lambda _: True)
    assert other.missing() == other.members
    assert other.fill() == 0
    assert other.missing() == []
    assert other.seconds(other.original) == 7
    expected = references.evaluation(references.original, "val").metrics
    assert other.evaluation(other.original, "val").metrics == expected
