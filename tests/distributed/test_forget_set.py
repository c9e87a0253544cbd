"""Tasks in an experiment: texts about them, a study's name, the place of corrupted images."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distributed.config.read import make_experiment
from distributed.plan.disk import estimate
from distributed.plan.make import find_study, make_plan
from distributed.plan.plan import Plan, resolved
from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS
from mixunlearn.metrics.table import is_metric
from mixunlearn.tasks import TASKS
from report.notation import unit

Planned = Callable[..., Plan]
LIMITED = {"source": "digits", "limit": {"train": 300}}


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """Make plans in a home of the test's own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)

    def plan(**task: Any) -> Plan:
        model = {"name": "cnn", "width": 4}
        content = {"name": "tiny", "data": LIMITED, "model": model, "task": task}
        return make_plan(make_experiment(content), tmp_path / "runs", command="a test")

    return plan


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"kind": "class"}, "all {n} training images of class 0"),
        ({"kind": "class", "classes": [3, 1]}, "all {n} training images of class 1, 3"),
        ({"kind": "data"}, "{n} images: 40% of the training images of the upper half"),
        ({"kind": "data", "classes": [1, 2]}, "{n} images: 40% of the training images of 1, 2"),
        ({"kind": "random"}, "{n} images: 10% of the training images"),
        ({"kind": "ids", "ids": [9, 4]}, "2 images asked for"),
        (
            {"kind": "noisy"},
            "{n} images: 60% of the training images of the lower half, which were taught with "
            "wrong labels",
        ),
        (
            {"kind": "backdoor", "target": 3},
            "{n} images: 10% of the training images of all but 3, which were taught as 3, with a "
            "trigger of 3×3 pixels",
        ),
        (
            {"kind": "semi", "of": "class"},
            "all {n} training images of class 0; methods know {known} of {retained} retained "
            "labels",
        ),
        ({"kind": "random", "fraction": 0.0125}, "{n} images: 1.25% of the training images"),
        ({"kind": "random", "fraction": 0.125}, "{n} images: 12.5% of the training images"),
        ({"kind": "hard"}, "{n} images: 10% of the training images, those of highest memorisation"),
    ],
    ids=str,
)
def test_a_forget_set_in_words(planned: Planned, task: dict[str, Any], words: str) -> None:
    plan = planned(**task)
    parts = plan.splits.forget_N, plan.splits.known_N, plan.splits.retain_N
    counts = dict(zip(("n", "known", "retained"), map(len, parts), strict=True))
    assert plan.forget_set == words.format(**counts)


@pytest.mark.parametrize("kind", TASKS)
def test_every_metric_of_a_task_is_recorded_and_has_a_unit(planned: Planned, kind: str) -> None:
    task = {"kind": kind, **({"ids": [1, 2]} if kind == "ids" else {})}
    for name in planned(**task).references.val_metrics:
        assert is_metric(name)
        assert unit(name) in {"%", "nats"}


# What a study's name depends on


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ({"kind": "class", "classes": [0]}, "627e2241"),
        ({"kind": "class", "classes": [7, 2]}, "fab9399f"),
        ({"kind": "data"}, "7724b72f"),
        ({"kind": "random", "fraction": 0.25}, "00bf9e11"),
    ],
    ids=str,
)
def test_studies_of_the_first_tasks_keep_their_names(task: dict[str, Any], name: str) -> None:
    content = {"name": "t", "data": {"source": "digits"}, "model": {"name": "cnn"}, "task": task}
    assert make_experiment(content).signature("0" * 64) == name


def test_a_list_of_ids_and_a_file_of_them_make_one_study(planned: Planned, tmp_path: Path) -> None:
    request = tmp_path / "request.txt"
    request.write_text("17\n5\n")
    filed = planned(kind="ids", ids="request.txt")
    assert (
        filed.study
        == planned(kind="ids", ids=[5, 17]).study
        == planned(kind="ids", ids=[17, 5]).study
    )
    assert "ids: request.txt" in resolved(filed.experiment)
    request.write_text("17\n6\n")
    assert planned(kind="ids", ids="request.txt").study != filed.study


# Corrupted images


@pytest.mark.parametrize("kind", ["noisy", "backdoor"])
def test_spoilt_images_are_kept_and_found_again(planned: Planned, kind: str) -> None:
    plan = planned(kind=kind)
    assert plan.dataset.digest != plan.source.digest
    kept = plan.keep()
    assert kept.study == plan.study == planned(kind=kind).study
    assert kept.source.path != kept.dataset.path
    assert kept.dataset.path == planned(kind=kind).keep().dataset.path
    assert kept.references.payload(kept.references.original)["data"] == plan.dataset.digest
    # Workers map the file and find the plan's images in it.
    assert len(pickle.dumps(kept.dataset)) < 1000
    worker = pickle.loads(pickle.dumps(kept.dataset))
    np.testing.assert_array_equal(worker.labels_N, plan.dataset.labels_N)
    np.testing.assert_array_equal(worker.images_NCHW, plan.dataset.images_NCHW)
    assert find_study(kept.study, [], kept.home).study == kept.study


def test_a_spoilt_file_that_is_damaged_is_written_again(planned: Planned) -> None:
    path = planned(kind="noisy").keep().dataset.path
    assert path is not None
    path.write_bytes(path.read_bytes()[:-9])
    again = planned(kind="noisy").keep()
    assert again.dataset.path == path
    assert again.dataset.digest == planned(kind="noisy").dataset.digest


def test_images_that_nothing_spoils_are_kept_once(planned: Planned) -> None:
    kept, corrupted = planned(kind="random").keep(), planned(kind="noisy")
    assert kept.dataset is kept.source
    assert len(list((kept.home / "cache").glob("*.arrow"))) == 1
    assert estimate(corrupted, 1)["images"] == 2 * estimate(kept, 1)["images"]


# Methods


def test_whole_classes_are_forgotten_by_a_task_with_few_labels_of_a_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(METHODS["finetune"], "whole_classes", True)

    def method(**task: Any) -> str:
        content = {"name": "t", "data": LIMITED, "model": {"name": "cnn"}, "task": task}
        return make_experiment({**content, "method": "finetune"}).method

    assert method(kind="class") == method(kind="semi", of="class") == "finetune"
    for task in ({"kind": "semi"}, {"kind": "ids", "ids": [1]}):
        with pytest.raises(InputError, match=f"whole classes, not an? {task['kind']} task; use "):
            method(**task)
