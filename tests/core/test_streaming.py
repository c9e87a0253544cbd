"""Images and features that do not fit are read or computed batch by batch, to the same numbers."""

import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mixunlearn.data import arrow, streaming
from mixunlearn.data.batches import Samples, shuffled
from mixunlearn.data.memory import GIB, DataMemory, host_memory
from mixunlearn.data.streaming import AHEAD, Order, Streamed, joined, upload
from mixunlearn.inference import predict
from mixunlearn.models import StagedModel
from mixunlearn.problem import Problem
from mixunlearn.recomputed import Recomputed
from mixunlearn.references import Member, ReferenceStore
from mixunlearn.teaching import taught, teach
from mixunlearn.trial import Trial

CPU = torch.device("cpu")
SMALL = DataMemory(gib=1e-7)  # 107 bytes: one image does not fit
# All that go over D_f, D_r and held-out images in ways of their own.
METHODS_READING: Mapping[str, Mapping[str, Any]] = {
    "mixunlearn": {"stage": "pool2", "batch": 7},
    "scrub": {"rewind": True},
    "rum": {"schedule_epochs": 2},
    "amun": {"radius": 4.0},
    "ssd": {"importance_batch": 1},
    "boundary": {},
    "l2ul": {"adversaries": 2},
    "sisa": {},
    "bad_teacher": {},
    "influence": {},
}


@pytest.fixture(scope="module")
def images() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4), np.uint8)


def stream(images: np.ndarray[Any, np.dtype[np.uint8]], rows: range) -> Streamed:
    return Streamed(arrays=(images,), rows_N=np.array(rows), device=CPU)


def two_epochs(problem: Problem, method: str, given: Mapping[str, Any]) -> list[object]:
    """Metrics of two epochs and all weights; before the second one, the trial is resumed."""
    first = Trial(problem, method, given, 3, CPU)
    found: list[object] = [measured(first)]
    second = Trial(problem, method, given, 3, CPU)
    second.load_state_dict(first.state_dict())
    found.append(measured(second))
    return [*found, {name: value.numpy() for name, value in weights(second.method.model).items()}]


def measured(trial: Trial) -> dict[str, float]:
    return {name: value for name, value in trial.epoch().items() if not name.startswith("time/")}


def weights(model: StagedModel) -> dict[str, torch.Tensor]:
    return model.state_dict()


@pytest.mark.parametrize("method", METHODS_READING)
def test_streamed_images_give_the_same_numbers_to_the_bit(method: str, problem: Problem) -> None:
    given = METHODS_READING[method]
    streamed = replace(problem, memory=SMALL)
    assert isinstance(streamed.context(CPU, 0).retain.images_NCHW, Streamed)
    assert isinstance(problem.context(CPU, 0).retain.images_NCHW, torch.Tensor)
    np.testing.assert_equal(two_epochs(streamed, method, given), two_epochs(problem, method, given))


def test_training_is_the_same_on_streamed_images(references: ReferenceStore) -> None:
    member = Member(role="reference", seed=0)

    def trained(store: ReferenceStore) -> list[object]:
        first = store.training(member, CPU)
        losses = [first.epoch()["loss"]]
        second = store.training(member, CPU)
        second.load_state_dict(first.state_dict())
        losses.append(second.epoch()["loss"])
        return [losses, {name: value.numpy() for name, value in weights(second.model).items()}]

    small = replace(references, memory=SMALL)
    assert isinstance(small.training(member, CPU).samples.images_NCHW, Streamed)
    np.testing.assert_equal(trained(small), trained(references))


def test_a_batch_is_the_same_from_every_source(images: np.ndarray[Any, Any]) -> None:
    order = upload([torch.tensor([3, 1, 1]), torch.tensor([4])], CPU)
    part = stream(images, range(5, 15))
    whole = Samples(images_NCHW=torch.from_numpy(images[5:15]))
    for indices_B in [*order, order[0], torch.tensor([2, 0])]:  # also again, and unknown ones
        batch = Samples(images_NCHW=part).batch(indices_B)
        assert torch.equal(batch, whole.batch(indices_B))
        assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(part.whole(), whole.whole())
    assert part.shape == whole.images_NCHW.shape


def test_parts_and_unions_read_nothing_and_know_their_images(images: np.ndarray[Any, Any]) -> None:
    first, second = stream(images, range(4)), stream(images, range(10, 12))
    other = Streamed.of(255 - images, CPU)
    mask = torch.tensor([True, False, True, False])
    both = joined([first[mask], second, other[1:3], first[torch.tensor([3])]])
    expected = [images[[0, 2]], images[10:12], (255 - images)[1:3], images[[3]]]
    assert isinstance(both, Streamed)
    np.testing.assert_equal(both.whole().numpy(), np.concatenate(expected))
    same = joined([first, second])
    assert isinstance(same, Streamed)
    assert len(same.arrays) == 1
    np.testing.assert_equal(same.whole().numpy(), images[[0, 1, 2, 3, 10, 11]])


def test_the_next_batches_are_read_ahead_and_old_ones_dropped(
    images: np.ndarray[Any, Any],
) -> None:
    part, order = stream(images, range(20)), Order(np.split(np.arange(20), 10))
    for place in range(10):
        np.testing.assert_equal(order.read(part, place).numpy(), images[2 * place : 2 * place + 2])
        assert [*order.begun[part]] == [*range(place, min(place + 1 + AHEAD, 10))]


def test_orders_do_not_outlive_their_batches(images: np.ndarray[Any, Any]) -> None:
    before = len(streaming._orders)
    batches = shuffled(np.random.default_rng(0), 20, 4, CPU)
    assert len(streaming._orders) == before + 5
    del batches
    assert len(streaming._orders) == before


def test_large_images_go_through_a_model_in_small_batches() -> None:
    empty = np.broadcast_to(np.zeros((), np.uint8), (1000, 3, 224, 224))
    sizes = [len(part) for part in Samples(images_NCHW=Streamed.of(empty, CPU)).in_order()]
    assert sum(sizes) == 1000
    assert max(sizes) * 3 * 224 * 224 * 4 <= 32 * 2**20
    small = Samples(images_NCHW=Streamed.of(empty[:, :, :32, :32], CPU)).in_order()
    assert [len(part) for part in small] == [256, 256, 256, 232]


def test_features_that_take_too_much_are_computed_by_batch(
    problem: Problem, references: ReferenceStore
) -> None:
    tensors = teach(
        references.load(references.original),
        references.dataset,
        references.splits,
        ("pool1", "pool2"),
        # Those of pool1 take 4 times as much.
        DataMemory(gib=2 * problem.retain.features["pool2"].nbytes / GIB),
    )
    assert "retain/features/pool2" in tensors
    assert "retain/features/pool1" not in tensors
    forget, retain = taught(references.dataset, references.splits, ("pool1", "pool2"), tensors)
    context = replace(problem, forget=forget, retain=retain).context(CPU, 0)
    indices_B = torch.tensor([5, 0, 7])
    assert isinstance(context.retain.features["pool1"], Recomputed)
    stored = torch.from_numpy(problem.retain.features["pool1"].copy())
    few = context.retain.at(torch.tensor([7, 8, 9]))
    for found, rows in ((context.retain, indices_B), (few, torch.tensor([0, 2]))):
        places = rows if found is context.retain else rows + 7
        computed = found.features["pool1"][rows]
        torch.testing.assert_close(computed, stored[places].float(), rtol=2**-10, atol=1e-6)
    with pytest.raises(KeyError):
        context.retain.features["pool9"]


def test_unlearning_with_computed_features_is_as_with_stored_ones(problem: Problem) -> None:
    bare = replace(
        problem,
        forget=replace(problem.forget, features={}),
        retain=replace(problem.retain, features={}),
    )
    given = {"stage": "pool2", "batch": 50}
    stored, computed = (Trial(each, "mixunlearn", given, 0, CPU) for each in (problem, bare))
    assert computed.unlearn()["train/loss"] == pytest.approx(
        stored.unlearn()["train/loss"], rel=1e-3
    )


def test_only_the_stage_of_the_configuration_is_loaded(problem: Problem) -> None:
    trial = Trial(problem, "mixunlearn", {"stage": "pool2"}, 0, CPU)
    features = trial.context.retain.features
    assert [*getattr(features, "loaded")] == ["pool2"]  # noqa: B009 (the mapping is a `ByStage`)


def test_the_share_of_a_trial_is_part_of_the_memory() -> None:
    assert DataMemory(gib=2).of_trial(CPU) == DataMemory(gib=2).of_stage() == 2 * GIB
    assert 0 < DataMemory(cpu=0.5).of_trial(CPU) <= DataMemory().of_stage() <= host_memory() / 8
    assert DataMemory(cpu=1e6).of_trial(CPU) == DataMemory().of_stage()


def test_predictions_are_the_same_from_every_source(
    problem: Problem, references: ReferenceStore
) -> None:
    model = references.load(references.original)
    part = problem.retain.samples
    streamed, features = predict(model, part.streamed(CPU), ("pool2",))
    resident, same = predict(model, torch.from_numpy(part.images_NCHW), ("pool2",))
    assert torch.equal(streamed, resident)
    assert torch.equal(features["pool2"], same["pool2"])


def test_a_mapped_entry_is_a_view_of_its_file(references: ReferenceStore) -> None:
    payload = {"model": 1}
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "half": np.arange(6, dtype=np.float16).reshape(2, 3),
        "none": np.zeros((0, 3), np.float32),
        "one": np.array(7),
        "flags": np.array([True, False]),
    }
    references.store.write("tests", payload, tensors=tensors)
    found = references.store.read("tests", payload, command="", mapped=True).tensors
    plain = references.store.read("tests", payload, command="").tensors
    for name, expected in tensors.items():
        np.testing.assert_equal(found[name], expected)
        assert found[name].dtype == plain[name].dtype
    assert not found["half"].flags.writeable
    assert not found["half"].flags.owndata


WORKER = """
import pickle, sys
from pathlib import Path
dataset = pickle.loads(Path(sys.argv[1]).read_bytes())
assert dataset.images_NCHW.sum()
print(Path("/proc/self/smaps").read_text())
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux counts pages")
def test_processes_share_the_pages_of_the_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (64, 3, 64, 64), np.uint8)
    labels_N = np.zeros(64, np.int64)
    made = arrow.make_dataset(images, labels_N, classes=["a"], n_train=64, source="random")
    path = (tmp_path / "images.arrow").resolve()
    mapped = arrow.keep(made, path)
    assert Streamed.of(mapped.images_NCHW, CPU).whole().any()  # all pages are used here as well
    pickled = tmp_path / "dataset"
    pickled.write_bytes(pickle.dumps(mapped))
    command = [sys.executable, "-c", WORKER, str(pickled)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for smaps in (done.stdout, Path("/proc/self/smaps").read_text()):
        pages = pages_of(path, smaps)
        assert pages["Rss"] >= images.nbytes
        assert pages["Anonymous"] == 0  # no copy
    # Half of each page is its own share, the other half this process's.
    assert pages_of(path, done.stdout)["Pss"] <= 0.6 * images.nbytes


def pages_of(path: Path, smaps: str) -> dict[str, int]:
    """Return in bytes what a process has of a file in memory, by the kernel's names."""
    found: dict[str, int] = {}
    inside = False
    for line in smaps.splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(str(path))
        elif inside and line.endswith(" kB"):
            name, size, _ = line.split()
            found[name[:-1]] = found.get(name[:-1], 0) + 1024 * int(size)
    return found
