"""Small real problems, made once for all tests of a process."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from mixunlearn.bank import Bank
from mixunlearn.data.sources import SOURCES
from mixunlearn.data.splits import make_splits
from mixunlearn.problem import Architecture, Problem
from mixunlearn.store import Store
from mixunlearn.training import Recipe

STAGES = {"cnn": ("pool1", "pool2"), "convnet": ("block2",)}


def make_bank(
    root: Path,
    model: str = "cnn",
    task: Mapping[str, object] | None = None,
    epochs: int = 6,
    references: int = 2,
) -> Bank:
    """Return a filled bank on 600 digits."""
    dataset = SOURCES["digits"]()
    splits = make_splits(dataset, task or {"kind": "class", "classes": [0]}, limit={"train": 900})
    bank = Bank(
        store=Store(root),
        dataset=dataset,
        splits=splits,
        architecture=Architecture(name=model, width=8, image_shape=(1, 8, 8), classes=10),
        recipe=Recipe(epochs=epochs, lr=3e-3),
        references=references,
        stages=STAGES[model],
        command="mixunlearn references X",
    )
    for member in bank.missing():
        training = bank.training(member, torch.device("cpu"))
        for _ in range(epochs):
            training.epoch()
        bank.keep(member, training.model, seconds=1.0)
    return bank


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return make_bank(tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="session")
def problem(bank: Bank) -> Problem:
    return bank.problem(with_labels=True)


@pytest.fixture(scope="session")
def agnostic_problem(bank: Bank) -> Problem:
    return bank.problem(with_labels=False)


@pytest.fixture(scope="session")
def batch_norm_problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    bank = make_bank(tmp_path_factory.mktemp("bank"), model="convnet", epochs=1, references=1)
    return bank.problem(with_labels=True)


@pytest.fixture(scope="session")
def tiny_forget_problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    task = {"kind": "random", "fraction": 0.004}
    bank = make_bank(tmp_path_factory.mktemp("bank"), task=task, epochs=1, references=1)
    assert len(bank.splits.forget_N) < 5
    return bank.problem(with_labels=True)


@pytest.fixture(scope="session")
def problem_file(problem: Problem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("problem") / "problem"
    path.write_bytes(pickle.dumps(problem))
    return path
