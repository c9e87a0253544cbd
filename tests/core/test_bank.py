"""The bank of originals and references, and what is judged by it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mixunlearn.bank import Bank
from mixunlearn.errors import MissingError
from mixunlearn.evaluation import evaluation_set
from mixunlearn.store import Store
from mixunlearn.trial import DivergedError, Trial

CPU = torch.device("cpu")


def test_nothing_is_missing_once_it_is_filled(bank: Bank) -> None:
    assert bank.missing() == []
    assert [member.role for member in bank.members] == ["original", "reference", "reference"]


def test_more_references_are_the_only_ones_missing(bank: Bank) -> None:
    missing = replace(bank, references=4).missing()
    assert [(member.role, member.seed) for member in missing] == [
        ("reference", 2),
        ("reference", 3),
    ]


@pytest.mark.parametrize("change", ["recipe", "architecture", "splits"])
def test_other_settings_are_other_models(bank: Bank, change: str) -> None:
    others = {
        "recipe": replace(bank, recipe=replace(bank.recipe, epochs=7)),
        "architecture": replace(bank, architecture=replace(bank.architecture, width=4)),
        "splits": replace(bank, splits=replace(bank.splits, retain_N=bank.splits.retain_N[1:])),
    }
    assert len(others[change].missing()) == 3


def test_a_missing_reference_is_an_error_and_never_a_number(bank: Bank) -> None:
    with pytest.raises(MissingError, match="mixunlearn references X"):
        replace(bank, references=3).judge("val")


def test_an_empty_store_has_no_problem(bank: Bank) -> None:
    with pytest.raises(MissingError, match=r"teachers .* is missing"):
        replace(bank, store=Store(bank.store.root / "none")).problem(with_labels=True)


def test_references_never_saw_the_forget_set(bank: Bank) -> None:
    references = bank.judge("test").references
    assert max(references.values("acc/train_forget")) == 0
    assert min(references.values("acc/test_retain")) > 80
    assert bank.evaluation(bank.original, "test").metrics["acc/train_forget"] > 90


def test_the_phases_share_no_image(bank: Bank) -> None:
    val, test = (evaluation_set(bank.dataset, bank.splits, phase) for phase in ("val", "test"))

    def images(phase: object) -> set[bytes]:
        parts = (getattr(phase, name) for name in ("forget", "retain", "held_out"))
        return {image.tobytes() for part in parts for image in part.images_NFHW}

    shared = images(val) & images(test)
    twins = len(bank.dataset.images_NFHW) - len(np.unique(bank.dataset.images_NFHW, axis=0))
    assert len(shared) <= twins
    sizes = len(val.forget.labels_N) + len(test.forget.labels_N)
    assert sizes == len(bank.splits.forget_N)


def test_a_single_forgotten_image_is_judged_in_both_phases(bank: Bank) -> None:
    splits = replace(bank.splits, forget_N=bank.splits.forget_N[:1])
    for phase in ("val", "test"):
        found = evaluation_set(bank.dataset, splits, phase)
        assert len(found.forget.labels_N) == 1


@pytest.mark.parametrize(
    ("forgotten", "metrics"),
    [
        ((0,), ("acc/train_forget", "acc/val_retain", "acc/val_forget", "mia/asr")),
        ((), ("acc/train_retain", "acc/train_forget", "acc/val", "mia/asr")),
    ],
)
def test_the_average_gap_is_over_the_tasks_table(
    bank: Bank, forgotten: tuple[int, ...], metrics: tuple[str, ...]
) -> None:
    splits = replace(bank.splits, forgotten=forgotten)
    assert evaluation_set(bank.dataset, splits, "val").gap_metrics == metrics


def test_a_trial_reports_val_and_never_test(bank: Bank) -> None:
    trial = Trial(bank.problem(with_labels=True), "mixunlearn", {}, 0, CPU)
    names = trial.epoch().keys()
    assert {"acc/val", "acc/val_retain", "mia/asr", "div/js", "gap/avg", "z/mia/asr"} <= names
    assert {"train/loss", "time/unlearn_s", "time/ratio_to_retrain"} <= names
    assert not any("test" in name for name in names)
    assert set(bank.val_metrics) == {
        name for name in names if name.startswith(("acc/", "mia/", "div/"))
    }


def test_a_trial_that_diverges_says_so(bank: Bank) -> None:
    problem = bank.problem(with_labels=True)
    broken = {name: np.full_like(array, np.nan) for name, array in problem.original.items()}
    trial = Trial(replace(problem, original=broken), "finetune", {}, 0, CPU)
    with pytest.raises(DivergedError, match="lower the learning rate"):
        trial.epoch()


def test_an_interrupted_training_goes_on_as_if_it_were_not(bank: Bank) -> None:
    member = bank.members[1]
    whole, before, after = (bank.training(member, CPU) for _ in range(3))
    losses = [whole.epoch()["loss"] for _ in range(3)]
    before.epoch()
    after.load_state_dict(before.state_dict())
    assert [after.epoch()["loss"] for _ in range(2)] == losses[1:]


def test_the_learning_rate_falls_to_nothing_along_a_cosine(bank: Bank) -> None:
    training = bank.training(bank.members[0], CPU)
    rates = []
    for _ in range(bank.recipe.epochs):
        training.epoch()
        rates.append(training.optimizer.param_groups[0]["lr"] / bank.recipe.lr)
    expected = (1 + np.cos(np.pi * np.arange(bank.recipe.epochs) / bank.recipe.epochs)) / 2
    assert rates == pytest.approx(expected)
