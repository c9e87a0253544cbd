"""Training by shards: which are affected, isolation of their images, the combined model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mixunlearn.data.batches import Samples
from mixunlearn.errors import InputError
from mixunlearn.inference import predict
from mixunlearn.methods.base import Context
from mixunlearn.methods.dsmixup import DSMixup, pair_up
from mixunlearn.methods.shards import ShardedMethod, deal
from mixunlearn.methods.sisa import SISA
from mixunlearn.models import StagedModel
from mixunlearn.models.ensemble import Ensemble, split_members
from mixunlearn.problem import Architecture
from search_spaces import SPACES

ARCHITECTURE = Architecture(name="cnn", width=2, image_shape=(1, 8, 8), classes=3)
CPU = torch.device("cpu")
N_FORGET, N_RETAIN = 3, 37
METHODS = pytest.mark.parametrize("method", [SISA, DSMixup])


def draw(count: int, seed: int) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    return Samples(
        images_NCHW=torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator),
        labels_N=torch.randint(3, (count,), generator=generator),
    )


@pytest.fixture
def context() -> Context:
    return Context(
        original=ARCHITECTURE.build(0).requires_grad_(False).eval(),
        fresh=ARCHITECTURE.build,
        initial=ARCHITECTURE.build,
        forget=draw(N_FORGET, 1),
        retain=draw(N_RETAIN, 2),
        held_out=draw(1, 3),
        classes=3,
        forgotten=(),
        seed=3,
    )


def trained(method: ShardedMethod, context: Context) -> ShardedMethod:
    method.prepare(context)
    for _ in range(2):
        method.epoch()
    return method


def same(first: StagedModel, second: StagedModel) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def blackened(samples: Samples, indices: np.ndarray) -> Samples:
    images_NCHW = samples.whole().clone()
    images_NCHW[torch.from_numpy(indices)] = 0
    return replace(samples, images_NCHW=images_NCHW)


# Dealing


@pytest.mark.parametrize("shards", [2, 5, 10])
def test_every_image_is_dealt_to_one_shard(shards: int) -> None:
    dealt = deal(N_FORGET, N_RETAIN, shards, seed=0)
    assert len(dealt) == shards
    sizes = [len(shard.forget) + len(shard.retain) for shard in dealt]
    assert max(sizes) - min(sizes) <= 1
    forget, retain = (
        np.sort(np.concatenate([getattr(shard, part) for shard in dealt]))
        for part in ("forget", "retain")
    )
    np.testing.assert_array_equal(forget, np.arange(N_FORGET))
    np.testing.assert_array_equal(retain, np.arange(N_RETAIN))


def test_equal_seeds_deal_alike_and_others_do_not() -> None:
    first, again, other = (deal(N_FORGET, N_RETAIN, 4, seed)[0].retain for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@METHODS
@pytest.mark.parametrize("n_forget", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_affected_are_exactly_the_shards_that_held_an_image_to_forget(
    method: type[ShardedMethod], context: Context, n_forget: int, seed: int
) -> None:
    sharded = method(shards=4)
    sharded.prepare(replace(context, forget=draw(n_forget, 1), seed=seed))
    assert 1 <= len(sharded.affected) <= n_forget
    assert len(sharded.affected) + len(sharded.untouched) == 4
    # All shards were dealt the same number of images, up to 1: the missing ones were forgotten.
    size = (n_forget + N_RETAIN) // 4
    assert all(len(shard) in {size, size + 1} for shard in sharded.untouched)
    assert all(len(shard) <= size for shard in sharded.affected)
    both = [*sharded.affected, *sharded.untouched]
    np.testing.assert_array_equal(np.sort(np.concatenate(both)), np.arange(N_RETAIN))


@METHODS
def test_a_shard_of_which_nothing_stays_has_no_model(
    method: type[ShardedMethod], context: Context
) -> None:
    few = replace(context, forget=draw(30, 1), retain=draw(2, 2))
    sharded = trained(method(shards=10), few)
    assert len(sharded.members) <= 2
    assert sum(map(len, sharded.affected)) + sum(map(len, sharded.untouched)) == 2


@pytest.mark.parametrize("shards", [1, 0, -1])
@METHODS
def test_without_shards_nothing_is_isolated(method: type[ShardedMethod], shards: int) -> None:
    with pytest.raises(InputError) as caught:
        method(shards=shards)
    assert str(caught.value) == (
        f"shards = {shards}: a single shard isolates nothing; use at least 2"
    )


@pytest.mark.parametrize("name", ["sisa", "dsmixup"])
def test_a_search_without_shards_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"search\.space\.shards = 1: must lie within 2 … 10"):
        SPACES[name](("pool1",), "pool1").narrowed({"shards": 1})


# Isolation


@METHODS
def test_no_model_has_seen_an_image_to_forget(
    method: type[ShardedMethod], context: Context
) -> None:
    usual = trained(method(shards=4), context)
    others = draw(N_FORGET, 99)
    changed = trained(method(shards=4), replace(context, forget=others))
    assert same(usual.model, changed.model)


def test_no_model_of_sisa_has_seen_an_image_of_another_shard(context: Context) -> None:
    usual = trained(SISA(shards=4), context)
    shards = [*usual.untouched, *usual.affected]
    for number, shard in enumerate(shards):
        retain = blackened(context.retain, shard)
        changed = trained(SISA(shards=4), replace(context, retain=retain))
        pairs = zip(usual.members, changed.members, strict=True)
        assert [same(*pair) for pair in pairs] == [other != number for other in range(4)]


def test_the_new_model_of_dsmixup_has_seen_the_affected_shards_alone(context: Context) -> None:
    usual = trained(DSMixup(shards=4), context)
    assert len(usual.affected) > 1
    count = len(usual.untouched)
    assert len(usual.members) == count + 1
    for indices, new_is_same in (
        (np.concatenate(usual.untouched), True),
        *((shard, False) for shard in usual.affected),
    ):
        retain = blackened(context.retain, indices)
        changed = trained(DSMixup(shards=4), replace(context, retain=retain))
        assert same(usual.members[count], changed.members[count]) == new_is_same
        assert same(usual.members[0], changed.members[0]) != new_is_same


# Cost


def test_sisa_costs_a_pass_over_what_the_affected_shards_retain(context: Context) -> None:
    method = SISA(shards=10)
    method.prepare(replace(context, forget=draw(1, 1)))
    scalars = method.epoch()
    (shard,) = method.affected
    assert len(shard) in {2, 3}
    assert scalars["images_retrained"] == len(shard)
    assert scalars["images_full"] == N_RETAIN
    assert scalars["retrained_share"] == pytest.approx(len(shard) / N_RETAIN)


def test_dsmixup_costs_as_much_as_one_shard(context: Context) -> None:
    whole = replace(context, forget=draw(N_RETAIN, 1))  # so that each shard is affected
    mixed, each = DSMixup(shards=4), SISA(shards=4)
    scalars = [trained(method, whole).epoch() for method in (mixed, each)]
    assert not mixed.untouched
    assert len(mixed.members) == 1
    assert scalars[0]["images_retrained"] == max(map(len, mixed.affected))
    assert scalars[1]["images_retrained"] == N_RETAIN


# Mixing


def test_pairs_are_of_different_shards_and_as_many_as_the_largest_has() -> None:
    shards = [np.arange(7), np.arange(10, 13), np.arange(20, 25)]
    shard_of = np.arange(30) // 10
    rng = np.random.default_rng(0)
    pairs = [pair_up(rng, shards) for _ in range(50)]
    for first, second in pairs:
        assert len(first) == len(second) == 7
        assert (shard_of[first] != shard_of[second]).all()
        assert sorted(np.bincount(shard_of[first])) == [2, 2, 3]
    seen = np.unique(np.concatenate([half for pair in pairs for half in pair]))
    np.testing.assert_array_equal(seen, np.concatenate(shards))


def test_a_single_shard_is_paired_with_itself() -> None:
    first, second = pair_up(np.random.default_rng(0), [np.arange(5)])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first), np.arange(5))


def test_the_loss_of_mixtures_is_mixed_as_their_images_are(context: Context) -> None:
    method = DSMixup(shards=4, alpha=0.7)
    method.prepare(context)
    lam = np.random.default_rng(11).beta(0.7, 0.7)
    method.rng = np.random.default_rng(11)
    retain, first_B, second_B = context.retain, torch.arange(4), torch.arange(4, 8)
    with torch.no_grad():
        mixed = lam * retain.batch(first_B) + (1 - lam) * retain.batch(second_B)
        log_p = torch.log_softmax(method.members[-1](mixed), 1)
        soft = lam * F.one_hot(retain.labels(first_B), 3)
        soft = soft + (1 - lam) * F.one_hot(retain.labels(second_B), 3)
        expected = -(soft * log_p).sum(1).mean()
    loss = method.step_on_mixtures(method.members[-1], first_B, second_B)["loss"]
    torch.testing.assert_close(loss, expected.to(loss))


# The combined model


def ensemble() -> Ensemble:
    return Ensemble([ARCHITECTURE.build(seed) for seed in range(3)]).eval()


def test_an_ensemble_answers_with_the_mean_softmax() -> None:
    images_NCHW = draw(5, 0).images_NCHW
    found, features = predict(ensemble(), images_NCHW)
    singles = [predict(ARCHITECTURE.build(seed), images_NCHW)[0] for seed in range(3)]
    torch.testing.assert_close(found, torch.stack(singles).mean(0))
    assert features == {}
    with pytest.raises(KeyError):
        predict(ensemble(), images_NCHW, ["pool1"])


def test_an_ensemble_is_loaded_from_its_weights() -> None:
    ours = ensemble()
    weights = {name: value.numpy() for name, value in ours.state_dict().items()}
    loaded = ARCHITECTURE.load(weights)
    assert isinstance(loaded, Ensemble)
    assert len(loaded.members) == 3
    assert same(ours, loaded)


def test_the_weights_of_a_single_model_are_no_ensembles() -> None:
    assert split_members(ARCHITECTURE.build(5).state_dict()) == []


def test_an_ensemble_can_be_exported() -> None:
    ours, count = ensemble(), torch.export.Dim("count", min=2)
    images = draw(7, 0).batch(torch.arange(7))
    program = torch.export.export(ours, (images[:2],), dynamic_shapes=({0: count},))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), ours(images))


def test_an_ensemble_goes_on_from_a_state(context: Context) -> None:
    whole, before, after = (trained(SISA(shards=3), context) for _ in range(3))
    after.prepare(context)
    after.load_state_dict(before.state_dict())
    assert whole.epoch() == after.epoch()
    assert same(whole.model, after.model)
