"""On a GPU, everything learns what it learns on a CPU; skipped where there is no GPU."""

import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from mixunlearn.computing import Computing
from mixunlearn.data.batches import Samples, shuffled
from mixunlearn.data.memory import DataMemory
from mixunlearn.data.sources import SOURCES
from mixunlearn.data.streaming import Streamed
from mixunlearn.methods import METHODS
from mixunlearn.models import build_model
from mixunlearn.population import train_epoch
from mixunlearn.problem import Problem
from mixunlearn.recipes import Recipe
from mixunlearn.training import Training
from mixunlearn.trial import Trial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
ALIKE = 1e-3  # relative: both round, in another order


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Convolutions in float32; by default a GPU rounds their inputs to ten bits."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_what_it_learns_on_a_cpu(name: str, problem: Problem) -> None:
    expected, found = (
        Trial(problem, name, {}, 0, torch.device(device)).epoch() for device in ("cpu", "cuda")
    )
    losses = {key: value for key, value in expected.items() if key.startswith("train/")}
    assert {key: found[key] for key in losses} == pytest.approx(losses, rel=ALIKE, abs=ALIKE)
    assert found.keys() == expected.keys()


@pytest.mark.parametrize("name", METHODS)
def test_steps_are_captured_and_agree_with_eager_ones(name: str, problem: Problem) -> None:
    if not METHODS[name].can_capture():
        pytest.skip("it has no steps of its own")
    eager = replace(problem, computing=Computing(capture=False))
    losses, captured = [], 0
    for each in (eager, problem):
        # Small batches: enough steps of one kind.
        parameters = {"batch": 16} if name != "jit" else {"batch": 16, "neighbours": 2}
        trial = Trial(each, name, parameters, 0, torch.device("cuda"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # says why steps are not captured
            losses.append([trial.unlearn() for _ in range(2)])
        captured = trial.method.captured_kinds
    for one, other in zip(*losses, strict=True):
        assert one == pytest.approx(other, rel=0.02, abs=0.02)
    assert captured > 0


def test_deterministic_runs_are_equal_to_the_last_digit(batch_norm_problem: Problem) -> None:
    computing = Computing(deterministic=True)
    computing.apply(torch.device("cuda"))
    try:
        found = []
        for _ in range(2):
            exact = replace(batch_norm_problem, computing=computing)
            given = {"stage": "block2"}
            trial = Trial(exact, "mixunlearn", given, 0, torch.device("cuda"))
            found.append(([trial.unlearn() for _ in range(2)], trial.method.model.state_dict()))
    finally:
        Computing().apply(torch.device("cuda"))
    assert found[0][0] == found[1][0]
    for one, other in zip(found[0][1].values(), found[1][1].values(), strict=True):
        assert torch.equal(one, other)


def test_together_they_learn_what_they_learn_alone() -> None:
    alone, together = ([training(seed) for seed in range(3)] for _ in range(2))
    for _ in range(2):
        losses = [each.epoch()["loss"] for each in alone]
        assert train_epoch(together) == pytest.approx(losses, rel=ALIKE)
    for one, other in zip(together, alone, strict=True):
        weights = zip(one.model.parameters(), other.model.parameters(), strict=True)
        assert all(torch.linalg.norm(a - b) < 0.01 * torch.linalg.norm(b) for a, b in weights)


def training(seed: int) -> Training:
    digits = SOURCES["digits"]()
    samples = Samples(
        images_NCHW=torch.tensor(digits.images_NCHW[:301]).cuda(),
        labels_N=torch.tensor(digits.labels_N[:301]).cuda(),
    )
    model = build_model("cnn", image_shape=(1, 8, 8), classes=10, seed=seed, width=8)
    return Training(model.cuda(), samples, Recipe(epochs=3, lr=3e-3), seed)


def test_streamed_images_are_those_that_are_resident(problem: Problem) -> None:
    device = torch.device("cuda")
    small = replace(problem, memory=DataMemory(gib=1e-7))
    streamed, resident = (each.context(device, 0).retain for each in (small, problem))
    assert isinstance(streamed.images_NCHW, Streamed)
    assert streamed.images_NCHW.read(np.arange(3)).is_pinned()
    assert torch.equal(streamed.whole(), resident.whole())
    for indices_B in shuffled(np.random.default_rng(0), len(resident), 32, device):
        assert torch.equal(streamed.batch(indices_B), resident.batch(indices_B))
