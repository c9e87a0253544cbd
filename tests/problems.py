"""Small real problems, made once for all tests of a process."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from mixunlearn.data.sources import SOURCES
from mixunlearn.problem import Architecture, Problem
from mixunlearn.recipes import Recipe
from mixunlearn.references import ReferenceStore
from mixunlearn.splits import make_splits
from mixunlearn.store import Store

STAGES = {"cnn": ("pool1", "pool2"), "convnet": ("block2",)}


def make_reference_store(
    root: Path,
    model: str = "cnn",
    task: Mapping[str, object] | None = None,
    epochs: int = 6,
    references: int = 2,
) -> ReferenceStore:
    """Return a filled reference store on 600 digits."""
    dataset = SOURCES["digits"]()
    splits = make_splits(dataset, task or {"kind": "class", "classes": [0]}, limit={"train": 900})
    filled = ReferenceStore(
        store=Store(root),
        dataset=dataset,
        splits=splits,
        architecture=Architecture(name=model, width=8, image_shape=(1, 8, 8), classes=10),
        recipe=Recipe(epochs=epochs, lr=3e-3),
        references=references,
        stages=STAGES[model],
        command="mixunlearn references X",
    )
    filled.fill()
    return filled


def recipe_of(references: ReferenceStore) -> Recipe:
    """The recipe of a store whose models are not trained by a user's own function."""
    assert isinstance(references.recipe, Recipe)
    return references.recipe


@pytest.fixture(scope="session")
def references(tmp_path_factory: pytest.TempPathFactory) -> ReferenceStore:
    return make_reference_store(tmp_path_factory.mktemp("references"))


@pytest.fixture(scope="session")
def problem(references: ReferenceStore) -> Problem:
    return references.problem(with_labels=True)


@pytest.fixture(scope="session")
def agnostic_problem(references: ReferenceStore) -> Problem:
    return references.problem(with_labels=False)


@pytest.fixture(scope="session")
def batch_norm_problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    references = make_reference_store(
        tmp_path_factory.mktemp("references"), model="convnet", epochs=1, references=1
    )
    return references.problem(with_labels=True)


@pytest.fixture(scope="session")
def tiny_forget_problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    task = {"kind": "random", "fraction": 0.004}
    references = make_reference_store(
        tmp_path_factory.mktemp("references"), task=task, epochs=1, references=1
    )
    assert len(references.splits.forget_N) < 5
    return references.problem(with_labels=True)


@pytest.fixture(scope="session")
def problem_file(problem: Problem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("problem") / "problem"
    path.write_bytes(pickle.dumps(problem))
    return path
