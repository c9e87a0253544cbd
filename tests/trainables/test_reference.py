"""Originals and references that are trained together in one process, without Ray."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mixunlearn.files import Files
from mixunlearn.population import train_epoch
from mixunlearn.references import Member, ReferenceStore
from mixunlearn.store import Store
from mixunlearn.training import Training
from tests.problems import recipe_of
from trainables import reference
from trainables.reference import DIVERGED, ReferenceTrainable

# Relative to a tensor's size; see tests/core/test_population.py.
CLOSE = 1e-3
Calls = list[list[int]]


@pytest.fixture(scope="module")
def one_by_one(
    references: ReferenceStore, tmp_path_factory: pytest.TempPathFactory
) -> ReferenceStore:
    """One original and three references, trained one by one by the library."""
    few = replace(
        references,
        store=Store(tmp_path_factory.mktemp("one_by_one")),
        references=3,
        recipe=replace(recipe_of(references), epochs=2),
    )
    few.fill()
    return few


@pytest.fixture
def empty(one_by_one: ReferenceStore, tmp_path: Path) -> ReferenceStore:
    return replace(one_by_one, store=Store(tmp_path / "store"))


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members are trained together here as well, as they are on a GPU."""
    monkeypatch.setattr(ReferenceStore, "most_together", lambda self, device: 64)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The numbers of models in each call of `train_epoch`, a list for each epoch done."""
    found: Calls = [[], [], []]

    def record(trainings: Sequence[Training]) -> list[float]:
        if trainings:
            found[trainings[0].epochs_done].append(len(trainings))
        return train_epoch(trainings)

    monkeypatch.setattr(reference, "train_epoch", record)
    return found


def actor(store: ReferenceStore, members: Sequence[Member], folder: Path) -> Any:
    """Return the trainable of these members; checkpoints are looked for in the folder."""

    class Here(ReferenceTrainable):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, stores=[store], checkpoints=Files.of(folder))

    wanted = {"store": 0, "members": [asdict(member) for member in members]}
    return Here(config={"wanted": wanted})


def finish(training: Any) -> dict[str, Any]:
    """Take all steps; return the last result."""
    result = training.train()
    while not result["done"]:
        result = training.train()
    return dict(result)


def distance(store: ReferenceStore, other: ReferenceStore, member: Member) -> float:
    """How far the weights of a member are apart: the largest relative distance of a tensor."""
    pairs = zip(
        store.load(member).state_dict().values(),
        other.load(member).state_dict().values(),
        strict=True,
    )
    return max(float((found - own).norm() / own.norm()) for found, own in pairs)


@pytest.mark.usefixtures("together")
def test_together_they_become_what_they_become_one_by_one(
    empty: ReferenceStore, one_by_one: ReferenceStore, calls: Calls, tmp_path: Path
) -> None:
    members = empty.all_references
    result = finish(actor(empty, members, tmp_path))
    assert result["training_iteration"] == 2
    assert calls[:2] == [[1, 2], [1, 2]]  # one alone, for its time
    assert all(distance(empty, one_by_one, member) < CLOSE for member in members)
    # It was no accident: another reference is far away.
    weights = [next(iter(empty.load(member).state_dict().values())) for member in members]
    assert (weights[0] - weights[1]).norm() > 0.1 * weights[0].norm()
    assert empty.missing() == empty.all_originals


def test_on_a_cpu_each_is_trained_alone_to_the_same_bits(
    empty: ReferenceStore, one_by_one: ReferenceStore, calls: Calls, tmp_path: Path
) -> None:
    """Also if a driver that counts on a GPU sends several."""
    finish(actor(empty, empty.all_references, tmp_path))
    assert calls[:2] == [[1, 1, 1], [1, 1, 1]]
    assert all(distance(empty, one_by_one, member) == 0 for member in empty.all_references)


@pytest.mark.usefixtures("together")
def test_the_time_of_each_is_that_of_training_one_alone(
    empty: ReferenceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them is trained alone in each epoch, in turn."""
    clock = SimpleNamespace(perf_counter=count().__next__)  # a second between two looks at it
    monkeypatch.setattr(reference, "time", clock)
    training = actor(empty, empty.all_references, tmp_path)
    alone: list[Member] = []
    train = training._train

    def record(members: Sequence[Member]) -> list[float]:
        alone.extend(members if len(members) == 1 else [])
        return list(train(members))

    training._train = record
    finish(training)
    assert alone == empty.all_references[:2]
    assert [empty.seconds(member) for member in empty.all_references] == [2, 2, 2]  # two epochs


def break_weights(training: Any, member: Member) -> None:
    next(training.trainings[member].model.parameters()).detach().fill_(torch.nan)


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("bad", [0, 1])  # the one that is trained alone, and one of the others
def test_one_that_diverges_is_named_and_the_others_are_stored(
    bad: int, empty: ReferenceStore, one_by_one: ReferenceStore, tmp_path: Path
) -> None:
    training, members = actor(empty, empty.all_references, tmp_path), empty.all_references
    break_weights(training, members[bad])
    result = finish(training)
    assert result["training_iteration"] == 2
    assert result[DIVERGED] == {"member": asdict(members[bad]), "what": "loss = nan"}
    assert empty.missing() == [*empty.all_originals, members[bad]]
    good = [member for member in members if member != members[bad]]
    assert all(distance(empty, one_by_one, member) < CLOSE for member in good)


def interrupted(store: ReferenceStore, runs: Path, broken: Member | None = None) -> Any:
    """Train all references for one epoch, and leave a checkpoint behind as Tune does."""
    killed = actor(store, store.all_references, runs)
    if broken:
        break_weights(killed, broken)
    killed.train()
    save(killed, runs)
    return killed


def save(killed: Any, runs: Path) -> None:
    folder = runs / "20300101" / killed.name / "checkpoint_000001"
    folder.mkdir(parents=True)
    killed.save_checkpoint(str(folder))


@pytest.mark.usefixtures("together")
def test_a_group_that_is_killed_goes_on_from_its_checkpoint(
    empty: ReferenceStore, one_by_one: ReferenceStore, calls: Calls, tmp_path: Path
) -> None:
    first, second, third = empty.all_references
    killed = interrupted(empty, tmp_path, broken=third)
    calls[0].clear()
    # As after a kill in the middle of storing: the first one is in the store.
    resumed = actor(empty, empty.all_references, tmp_path)
    empty.keep(first, one_by_one.load(first), 5.0)
    retried = actor(empty, empty.all_references, tmp_path)
    result = finish(retried)
    assert calls[:2] == [[], [1]]
    assert result["training_iteration"] == 1
    assert result[DIVERGED]["member"] == asdict(third)
    assert (empty.seconds(first), empty.seconds(second)) == (5, retried.seconds)
    assert retried.seconds > killed.seconds == resumed.seconds
    assert distance(empty, one_by_one, second) < CLOSE


@pytest.mark.usefixtures("together")
def test_another_group_starts_again(empty: ReferenceStore, calls: Calls, tmp_path: Path) -> None:
    interrupted(empty, tmp_path)
    calls[0].clear()
    fewer = empty.all_references[1:]
    assert finish(actor(empty, fewer, tmp_path))["training_iteration"] == 2
    assert calls[0] == [1, 1]
    assert empty.missing() == [*empty.all_originals, empty.all_references[0]]


@pytest.mark.usefixtures("together")
def test_a_group_with_a_member_that_its_checkpoint_lacks_starts_again(
    empty: ReferenceStore, calls: Calls, tmp_path: Path
) -> None:
    """It was in the store when the checkpoint was written, and was damaged since."""
    killed = actor(empty, empty.all_references, tmp_path)
    del killed.trainings[empty.all_references[0]]
    killed.train()
    save(killed, tmp_path)
    calls[0].clear()
    finish(actor(empty, empty.all_references, tmp_path))
    assert calls[0] == [1, 2]
    assert empty.missing() == empty.all_originals


@pytest.mark.usefixtures("together")
def test_members_that_lack_only_their_evaluations_are_not_trained(
    empty: ReferenceStore, one_by_one: ReferenceStore, calls: Calls, tmp_path: Path
) -> None:
    for member in empty.all_references[:2]:
        empty.keep(member, one_by_one.load(member), 7.0)
    empty.store.discard("evaluations", lambda _: True)
    finish(actor(empty, empty.all_references, tmp_path))
    assert calls[:2] == [[1], [1]]
    assert empty.missing() == empty.all_originals
    assert [empty.seconds(member) for member in empty.all_references[:2]] == [7, 7]
    assert all(distance(empty, one_by_one, member) == 0 for member in empty.all_references)
