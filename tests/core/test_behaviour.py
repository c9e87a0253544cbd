"""Behaviour beyond outputs: what is only hidden is found, and what is gone is not."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mixunlearn.data.batches import Samples
from mixunlearn.data.sources import SOURCES
from mixunlearn.errors import DivergedError
from mixunlearn.evaluation import evaluation_set
from mixunlearn.evidence.behaviour import SHOWN, BehaviourSet, behaviour_set, difference
from mixunlearn.evidence.features import features
from mixunlearn.evidence.images import accuracy_on, chosen, labels_of, on_device
from mixunlearn.evidence.neighbours import confused_class, nearest
from mixunlearn.evidence.probe import probe_accuracy
from mixunlearn.evidence.relearning import regained
from mixunlearn.metrics.table import metric_named
from mixunlearn.models import StagedModel, build_model
from mixunlearn.models.chain import Chain
from mixunlearn.models.ensemble import Ensemble
from mixunlearn.problem import Problem
from mixunlearn.recipes import Recipe
from mixunlearn.references import Member, ReferenceStore
from mixunlearn.splits import make_splits
from mixunlearn.training import Training
from mixunlearn.trial import Trial

CPU = torch.device("cpu")
FORGOTTEN = 0  # the class that the problem forgets


@pytest.fixture(scope="module")
def original(references: ReferenceStore) -> StagedModel:
    return references.load(references.original)


@pytest.fixture(scope="module")
def retrained(references: ReferenceStore) -> list[StagedModel]:
    return [references.load(Member(role="reference", seed=seed)) for seed in range(2)]


@pytest.fixture(scope="module")
def behaviour(references: ReferenceStore, original: StagedModel) -> BehaviourSet:
    images = evaluation_set(references.dataset, references.splits, "test")
    return behaviour_set(images, original)


def small(seed: int) -> StagedModel:
    return build_model("cnn", image_shape=(1, 8, 8), classes=10, seed=seed, width=8)


def head(model: StagedModel) -> nn.Linear:
    layer = [part for part in model.modules() if isinstance(part, nn.Linear)][-1]
    assert layer.out_features == 10
    return layer


@torch.no_grad()
def muted(model: StagedModel, label: int) -> StagedModel:
    """Return a copy that never answers with a class, although nothing else has changed."""
    changed = deepcopy(model)
    head(changed).weight[label] = 0
    head(changed).bias[label] = -100
    return changed


def test_a_change_of_the_head_alone_is_found(
    original: StagedModel, retrained: list[StagedModel], behaviour: BehaviourSet
) -> None:
    edited = muted(original, FORGOTTEN)
    assert accuracy_on(edited, behaviour.scored) == 0  # its outputs deny the class completely
    known, before, *without = (
        probe_accuracy(model, behaviour.fitted, behaviour.scored)  # type: ignore[arg-type]
        for model in (edited, original, *retrained)
    )
    assert known == before  # as if nothing had happened
    assert known > max(without)


def test_suppressed_knowledge_comes_back_sooner_than_it_can_be_learned(
    problem: Problem, retrained: list[StagedModel], behaviour: BehaviourSet
) -> None:
    """Wrong labels hide a class without removing what the features know of it."""
    trial = Trial(problem, "random_label", {"forget_weight": 9.0}, 0, CPU)
    for _ in range(3):
        trial.unlearn()
    hidden = trial.method.model
    assert accuracy_on(hidden, behaviour.scored) == 0
    found = difference(behaviour.measure(hidden), behaviour.measure(retrained[0]))
    assert found["relearn/forget"] > 80
    # Retained images say nothing about a class that is not among them.
    assert found["relearn/retain"] == 0


def test_retained_images_alone_put_a_swap_right(
    original: StagedModel, behaviour: BehaviourSet
) -> None:
    """A model whose answers were shifted by one class knows everything; a few steps show it."""
    shifted = deepcopy(original)
    with torch.no_grad():
        for weight in head(shifted).parameters():
            weight.copy_(weight.roll(1, 0))
    half = np.arange(len(behaviour.retain)) % 2 == 0
    scored, others = (chosen(behaviour.retain, np.flatnonzero(rows)) for rows in (half, ~half))
    assert accuracy_on(shifted, scored) < 5
    untrained = small(0)
    assert regained(shifted, scored, others, 0) > 10 + regained(untrained, scored, others, 0)


def test_a_copy_relearns_and_the_model_stays(
    original: StagedModel, behaviour: BehaviourSet
) -> None:
    model = deepcopy(original).train()
    head(model).bias.requires_grad_(False)
    before = deepcopy(model)
    first, again = behaviour.measure(model), behaviour.measure(model)
    assert first == again
    assert model.training
    for (name, weight), old in zip(model.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(weight, old), name
        assert weight.requires_grad == old.requires_grad
        assert weight.grad is None


def test_other_seeds_draw_other_images(references: ReferenceStore, original: StagedModel) -> None:
    images = evaluation_set(references.dataset, references.splits, "test")
    first, other = (behaviour_set(images, original, seed) for seed in (0, 1))
    assert not torch.equal(first.scored.whole(), other.scored.whole())
    assert torch.equal(first.near.whole(), other.near.whole())  # type: ignore[union-attr]


def test_no_image_is_both_shown_and_scored(
    references: ReferenceStore, behaviour: BehaviourSet
) -> None:
    images = evaluation_set(references.dataset, references.splits, "test")
    assert behaviour.shown is not None
    parts = torch.cat((behaviour.shown.whole(), behaviour.scored.whole())).flatten(1)
    forget = torch.from_numpy(images.forget.images_NCHW.copy()).flatten(1)
    assert len(behaviour.shown) == SHOWN
    assert sorted(map(tuple, parts.tolist())) == sorted(map(tuple, forget.tolist()))


def test_lost_neighbours_are_found(original: StagedModel, behaviour: BehaviourSet) -> None:
    """Unlearning that takes the neighbouring class along is catastrophic."""
    assert behaviour.neighbour is not None
    (label,) = {*labels_of(behaviour.neighbour).tolist()}
    assert label != FORGOTTEN
    before, after = (behaviour.measure(each) for each in (original, muted(original, label)))
    assert before["near/class"] > 90
    assert after["near/class"] == 0
    assert after["near/acc"] < before["near/acc"]


def test_the_nearest_images_are_those_that_are_alike(original: StagedModel) -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (560, 1, 8, 8), dtype=torch.uint8, generator=rng)
    copies = torch.arange(0, 560, 8)  # 70 of them
    forget = Samples(images_NCHW=images[copies])
    rows_N = nearest(original, forget, Samples(images_NCHW=images))
    assert len(rows_N) == 56  # a tenth
    assert set(rows_N) <= set(copies.tolist())


def test_the_confused_class_gets_most_of_the_wrong_probability() -> None:
    probs_NK = np.array([[0.5, 0.3, 0.1, 0.1], [0.2, 0.4, 0.3, 0.1]], np.float32)
    labels_N = np.array([0, 1])
    # Wrong probability by class, in all: 0.2, 0.3, 0.4, 0.2.
    assert confused_class(probs_NK, labels_N) == 2
    assert confused_class(probs_NK, labels_N, excluded=[2]) == 1


def test_features_that_say_nothing_give_the_share_of_the_commonest_class(
    original: StagedModel, behaviour: BehaviourSet
) -> None:
    blind = deepcopy(original)
    with torch.no_grad():
        for name, weight in blind.named_parameters():
            if name.startswith("stages"):
                weight.zero_()  # so all images look alike
    taught = behaviour.fitted
    assert taught is not None
    commonest = int(np.bincount(labels_of(taught)).argmax())
    expected = 100 * float(np.mean(labels_of(behaviour.retain) == commonest))
    assert probe_accuracy(blind, taught, behaviour.retain) == pytest.approx(expected)


def test_every_metric_is_in_the_table_and_has_its_steps(
    original: StagedModel, behaviour: BehaviourSet
) -> None:
    found, steps = behaviour.measure(original), behaviour.resolution()
    assert found.keys() == steps.keys()
    for name, value in found.items():
        metric = metric_named(name)
        assert metric is not None
        assert (metric.unit, metric.better) == ("pp" if "relearn" in name else "%", "nearer")
        assert value / steps[name] == pytest.approx(round(value / steps[name]))


def test_a_single_forget_image_is_scored_but_not_shown(
    references: ReferenceStore, original: StagedModel
) -> None:
    images = evaluation_set(references.dataset, references.splits, "test")
    one = replace(images.forget, ids_N=images.forget.ids_N[:1])
    single = behaviour_set(replace(images, forget=one), original)
    assert single.measure(original).keys() == {"relearn/retain", "near/acc", "near/class"}
    assert single.resolution().keys() == single.measure(original).keys()


def test_a_model_that_is_not_finite_is_refused(
    original: StagedModel, behaviour: BehaviourSet
) -> None:
    broken = deepcopy(original)
    with torch.no_grad():
        head(broken).bias[0] = torch.nan
    with pytest.raises(DivergedError, match="bias is not finite"):
        behaviour.measure(broken)


def test_models_of_any_kind_have_features(
    original: StagedModel, retrained: list[StagedModel], behaviour: BehaviourSet
) -> None:
    alone = [features(model, behaviour.scored) for model in retrained]
    assert alone[0].shape == (len(behaviour.scored), 128)
    together = features(Ensemble(retrained), behaviour.scored)
    assert torch.equal(together, torch.cat(alone, dim=1))
    assert behaviour.measure(Ensemble([original])).keys() == behaviour.resolution().keys()


def test_a_model_whose_last_layer_is_a_convolution_has_features() -> None:
    pool = nn.Sequential(nn.Conv2d(3, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = Chain(stages={"only": nn.Conv2d(1, 3, 1)}, head=pool, default_stage="only")
    images_NCHW = torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8)
    samples = Samples(images_NCHW=images_NCHW)
    maps = model.forward_with_features(samples.batch(torch.arange(4)), ["only"])[1]["only"]
    expected = maps.mean(dim=(2, 3))
    torch.testing.assert_close(features(model, samples), expected, rtol=1e-2, atol=1e-3)


def test_canaries_that_were_learned_are_answered_as_taught() -> None:
    """`acc/train_forget` of a noisy task: the share of wrong labels that a model repeats."""
    digits = SOURCES["digits"]()
    splits = make_splits(digits, {"kind": "noisy", "fraction": 0.05})
    images = evaluation_set(splits.corrupted(digits), splits, "test")
    canaries, untrained = on_device(images.forget, CPU), small(0)
    # Taught nothing but canaries, until it knows them by heart.
    taught = Training(untrained, canaries, Recipe(epochs=60, lr=3e-3), seed=0)
    while taught.epochs_done < taught.recipe.epochs:
        taught.epoch()
    found = images.evaluate(taught.model).metrics
    assert found["acc/train_forget"] == 100
    assert found["acc/train_forget_clean"] == 0  # no taught label is the true one
