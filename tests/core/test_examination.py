"""The examination of one model, and what many of them show."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from mixunlearn.evaluation import EvaluationSet, evaluation_set
from mixunlearn.evidence.examination import PARTS, Examined, Examiner
from mixunlearn.evidence.findings import findings, measures
from mixunlearn.evidence.logit_margins import logit_margins, packed
from mixunlearn.evidence.states import BETTER, EQUIVALENT, NO_BETTER
from mixunlearn.models.ensemble import Ensemble
from mixunlearn.references import ReferenceStore

MARGINS = {"acc/train_forget": 2.0, "acc/test": 2.0, "mia/asr": 5.0}


@pytest.fixture(scope="module")
def images(references: ReferenceStore) -> EvaluationSet:
    return evaluation_set(references.dataset, references.splits, "test")


@pytest.fixture(scope="module")
def examiner(references: ReferenceStore, images: EvaluationSet) -> Examiner:
    return Examiner.of(images, references.load(references.original))


def test_a_model_is_examined_and_left_as_it_was(
    references: ReferenceStore, images: EvaluationSet, examiner: Examiner
) -> None:
    model = references.load(references.original)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = examiner.examine(model)
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    stored = references.evaluation(references.original, "test").metrics
    assert {name: found.metrics[name] for name in stored} == dict(stored)
    assert {"mia/svc_confidence", "mia/asr_laf", "relearn/retain", "near/acc"} <= set(found.metrics)
    outputs = images.outputs(model)
    wanted_N = packed(logit_margins(outputs.forget_NK[None], images.forget.labels_N))[0]
    np.testing.assert_array_equal(found.margins["forget"], wanted_N)
    # A positive margin is a right answer, of two classes or of ten with a clear winner.
    assert (found.margins["forget"] > 0).mean() * 100 <= found.metrics["acc/train_forget"]


def test_the_control_is_unseen_images_of_the_classes_that_are_kept(
    images: EvaluationSet, examiner: Examiner, references: ReferenceStore
) -> None:
    margins = examiner.examine(references.load(references.original)).margins
    assert set(margins) == set(PARTS)
    kept_N = images.held_out.labels_N != 0
    assert 0 < kept_N.sum() < len(kept_N)
    assert len(margins["control"]) == kept_N.sum()


def test_all_models_are_measured_alike(references: ReferenceStore, examiner: Examiner) -> None:
    model = references.load(references.all_references[0])
    assert examiner.examine(model).metrics == examiner.examine(model).metrics
    both = Ensemble([references.load(each) for each in references.all_references])
    assert set(examiner.examine(both).metrics) == set(examiner.examine(model).metrics)


def test_other_seeds_are_other_models(references: ReferenceStore) -> None:
    others = replace(references, first=1000)
    assert len(others.missing()) == len(references.members)
    assert not {references.key(each) for each in references.members} & {
        others.key(each) for each in others.members
    }
    assert [each.seed for each in others.all_references] == [1000, 1001]


def models(
    rng: np.random.Generator, count: int, forget: float, margin: float
) -> Sequence[Examined]:
    """Return examinations with a stated accuracy on D_f and a stated mean margin there."""
    size = {"forget": 40, "retain": 50, "control": 60}
    return [
        Examined(
            metrics={
                "acc/train_forget": forget + rng.normal(scale=0.5),
                "acc/train_retain": 99 + rng.normal(scale=0.2),
                "acc/test": 95 + rng.normal(scale=0.5),
                "mia/asr": 50 + rng.normal(),
            },
            margins={
                part: packed(rng.normal(margin if part == "forget" else 0.0, 1.0, count_of))
                for part, count_of in size.items()
            },
        )
        for _ in range(count)
    ]


def test_models_like_retrained_ones_are_called_equivalent_and_leak_nothing() -> None:
    rng = np.random.default_rng(0)
    retrained, unlearned = models(rng, 8, 20.0, 0.0), models(rng, 8, 20.0, 0.0)
    found = findings(unlearned, models(rng, 8, 100.0, 3.0), retrained, MARGINS, cost=0.5, seed=0)
    assert found["verdict"]["state"] == EQUIVALENT
    area = found["per_example"]["forget"]["excess_auc"]
    assert area["low"] < 0 < area["high"]
    # 1/2 on average; of 8 + 8 models and 40 images it varies by about 0.04.
    assert abs(found["per_example"]["forget"]["auc"]["value"] - 0.5) < 0.12
    assert found["contest"]["score"] <= found["contest"]["ceiling"] + 0.1
    assert found["tow"]["value"] == pytest.approx(found["tow"]["own"], abs=0.02)
    assert found["klom"] is None  # of fewer than 64 models it says nothing


def test_a_trace_in_the_margins_is_found_where_all_accuracies_are_right() -> None:
    rng = np.random.default_rng(1)
    retrained, unlearned = models(rng, 8, 20.0, 0.0), models(rng, 8, 20.0, 3.0)
    found = findings(unlearned, models(rng, 8, 100.0, 3.0), retrained, MARGINS, cost=0.5, seed=0)
    assert found["verdict"]["state"] == EQUIVALENT  # of its metrics, none looks at margins
    assert found["per_example"]["forget"]["excess_auc"]["low"] > 0.3
    area = found["per_example"]["retain"]["excess_auc"]
    assert area["low"] < 0 < area["high"]


def test_doing_nothing_has_no_verdict_but_all_measures() -> None:
    rng = np.random.default_rng(2)
    untouched, retrained = models(rng, 5, 100.0, 3.0), models(rng, 5, 20.0, 0.0)
    found = findings(untouched, untouched, retrained, MARGINS, cost=None, seed=0)
    assert found["verdict"] == {}
    bias = found["measures"]["acc/train_forget"]
    assert bias["low"] < 80 < bias["high"]
    assert bias["value"] == pytest.approx(bias["unlearned"] - bias["retrained"])


def test_an_untouched_model_that_is_called_unlearned_is_no_better() -> None:
    rng = np.random.default_rng(3)
    untouched, retrained = models(rng, 5, 100.0, 3.0), models(rng, 5, 20.0, 0.0)
    found = findings(untouched, untouched, retrained, MARGINS, cost=0.1, seed=0)
    assert found["verdict"]["state"] == NO_BETTER
    half = models(rng, 5, 60.0, 1.0)
    better = findings(half, untouched, retrained, MARGINS, cost=0.1, seed=0)
    assert better["verdict"]["state"] == BETTER


def test_with_two_models_nothing_is_said_by_example() -> None:
    rng = np.random.default_rng(4)
    few = models(rng, 2, 20.0, 0.0)
    found = findings(few, few, models(rng, 5, 20.0, 0.0), MARGINS, cost=0.5, seed=0)
    assert found["per_example"] == {}
    assert found["contest"] is None
    assert found["measures"]["acc/test"]["low"] is None  # unknown


def test_only_metrics_that_all_models_have_are_compared() -> None:
    rng = np.random.default_rng(5)
    one, other = models(rng, 3, 20.0, 0.0), models(rng, 3, 20.0, 0.0)
    extra = [replace(each, metrics={**each.metrics, "near/acc": 90.0}) for each in one]
    assert "near/acc" not in measures(extra, other)
    assert "near/acc" in measures(extra, extra)
