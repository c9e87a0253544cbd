"""The table of metrics: each metric that is reported is in it, with the right resolution."""

from typing import get_args

import pytest
import torch

from mixunlearn.data.arrow import Dataset
from mixunlearn.data.sources import SOURCES
from mixunlearn.evaluation import Evaluator, Phase, evaluation_set
from mixunlearn.metrics.gap import ReferenceSet
from mixunlearn.metrics.table import (
    PREFIXES,
    RELATIVE,
    changed_margins,
    is_metric,
    largest_margin,
    margins,
    metric_named,
)
from mixunlearn.problem import Architecture, Problem
from mixunlearn.splits import make_splits
from mixunlearn.tasks import TASKS
from mixunlearn.trial import Trial

NEEDED: dict[str, dict[str, object]] = {"ids": {"ids": [3, 41, 599]}}  # keys without a default


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return SOURCES["digits"]()  # type: ignore[no-any-return]


def judge_of(kind: str, phase: Phase, digits: Dataset) -> Evaluator:
    task = {"kind": kind, **NEEDED.get(kind, {})}
    images = evaluation_set(digits, make_splits(digits, task), phase)
    shape = Architecture(name="cnn", width=2, image_shape=(1, 8, 8), classes=10)
    references = ReferenceSet(
        evaluations=[images.evaluate(shape.build(seed)) for seed in range(3)],
        seconds=[1.0, 2.0, 3.0],
        gap_metrics=images.gap_metrics,
        resolution=images.resolution(),
    )
    return Evaluator(images=images, references=references)


@pytest.mark.parametrize("phase", get_args(Phase))
@pytest.mark.parametrize("kind", TASKS)
def test_each_metric_of_each_kind_of_task_is_in_the_table(
    kind: str, phase: Phase, digits: Dataset
) -> None:
    evaluator = judge_of(kind, phase, digits)
    shape = Architecture(name="cnn", width=2, image_shape=(1, 8, 8), classes=10)
    reported = evaluator.evaluate(shape.build(3), seconds=1.0)
    assert [name for name in reported if metric_named(name) is None] == []
    assert all(map(is_metric, reported))
    # A metric that changes in steps is a share of samples, and a share of samples changes in steps.
    own = {name for name in reported if not name.startswith(RELATIVE)}
    shares = {name for name in own if (known := metric_named(name)) and known.share}
    assert set(evaluator.references.resolution) == shares
    assert {metric_named(name).unit for name in shares} == {"%"}  # type: ignore[union-attr]


def test_each_metric_of_a_trial_is_in_the_table(problem: Problem) -> None:
    reported = Trial(problem, "mixunlearn", {}, 0, torch.device("cpu")).epoch()
    assert [name for name in reported if metric_named(name) is None] == []


@pytest.mark.parametrize("name", ["trial", "params/lr", "acc", "acc_val/x", "", "/", "z", "TIME/s"])
def test_what_is_no_metric_is_not_in_the_table(name: str) -> None:
    assert metric_named(name) is None
    assert not is_metric(name)


def test_prefixes_and_relative_metrics_follow_from_the_table() -> None:
    """They decide what is recorded and how the columns of trials.parquet are ordered."""
    recorded = {"acc/", "mia/", "div/", "time/", "cost/", "train/", "gap/", "z/"}
    evidence = {"pe/", "klom/", "contest/", "tow/", "relearn/", "probe/", "near/"}
    assert set(PREFIXES) == recorded | evidence
    assert RELATIVE == ("gap/", "z/")


@pytest.mark.parametrize(
    ("name", "unit", "better"),
    [
        ("acc/test_retain", "%", "nearer"),
        ("backdoor/success", "%", "nearer"),
        ("mia/asr", "%", "nearer"),
        ("mia/loss_auc", "", "nearer"),
        ("mia/asr_laf", "%", "nearer"),
        ("mia/svc_confidence", "%", "nearer"),
        ("div/js", "nats", "nearer"),
        ("relearn/retain", "pp", "nearer"),
        ("probe/forget", "%", "nearer"),
        ("near/class", "%", "nearer"),
        ("pe/auc", "", "nearer"),
        ("pe/tpr_1", "%", "nearer"),
        ("pe/excess_auc", "", "nearer"),
        ("pe/excess_tpr_1", "pp", "nearer"),
        ("pe/retain_auc", "", "nearer"),
        ("pe/retain_tpr_1", "%", "nearer"),
        ("pe/retain_excess_auc", "", "nearer"),
        ("pe/retain_excess_tpr_1", "pp", "nearer"),
        ("klom/p95", "nats", "lower"),
        ("contest/forgetting", "", "nearer"),
        ("tow/acc", "", "nearer"),
        ("time/unlearn_s", "s", "lower"),
        ("time/ratio_to_retrain", "×", "lower"),
        ("time/at_once", "", None),
        ("cost/images_forward", "images", "lower"),
        ("cost/ratio_to_retrain", "×", "lower"),
        ("train/loss", "", None),
        ("gap/acc/val", "pp", "lower"),
        ("gap/div/js", "nats", "lower"),
        ("gap/relearn/retain", "pp", "lower"),
        ("gap/mia/loss_auc", "", "lower"),
        ("gap/new/metric", "", "lower"),
        ("gap/avg", "pp", "lower"),
        ("z/mia/asr", "", "nearer"),
    ],
)
def test_unit_and_direction(name: str, unit: str, better: str | None) -> None:
    found = metric_named(name)
    assert found is not None
    assert (found.unit, found.better) == (unit, better)


def test_margins_are_declared_by_metric_or_group_for_both_phases() -> None:
    names = ["acc/val_retain", "acc/train_forget", "mia/asr", "div/js"]
    assert list(margins(names, {}).values()) == [2.0, 2.0, 5.0, 0.05]
    declared = {"acc": 1.0, "acc/test_retain": 0.5, "mia/asr": 3.0}
    assert list(margins(names, declared).values()) == [0.5, 1.0, 3.0, 0.05]


def test_areas_have_margins_in_their_own_unit() -> None:
    names = ["mia/loss_auc", "mia/asr", "backdoor/success", "backdoor/loss_auc"]
    assert list(margins(names, {}).values()) == [0.05, 5.0, 5.0, 0.05]
    assert list(margins(names, {"mia": 2.0}).values()) == [0.02, 2.0, 5.0, 0.05]
    assert margins(names, {"mia/loss_auc": 0.1})["mia/loss_auc"] == 0.1


def test_margins_that_are_the_defaults_are_no_other_margins() -> None:
    names = ["acc/test", "acc/train_forget", "mia/asr"]
    assert changed_margins(names, {"acc": 2.0, "mia/asr": 5.0}) == {}
    assert changed_margins(names, {"acc": 1.0, "acc/test": 2.0}) == {"acc/train_forget": 1.0}


def test_a_margin_is_less_than_half_of_the_scale() -> None:
    names = ("acc", "acc/test", "mia/asr", "backdoor", "mia/loss_auc", "div", "div/js")
    assert [largest_margin(name) for name in names] == [50, 50, 50, 50, 1, 1, 1]
