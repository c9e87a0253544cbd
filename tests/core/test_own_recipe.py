"""The user's own training of originals and references."""

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mixunlearn.errors import InputError
from mixunlearn.models.wrapped import Wrapped
from mixunlearn.own_recipe import OwnRecipe, brought, find_train
from mixunlearn.problem import Architecture
from mixunlearn.references import Member, ReferenceStore
from mixunlearn.rehearsal import Rehearsal
from mixunlearn.store import Store

MODULE = """
import random
import numpy as np
import torch
import sys

SEEN = []

def note(model, images, labels, seed):
    chance = (random.random(), float(np.random.rand()), float(torch.rand(())))
    SEEN.append((type(model).__name__, images.dtype, tuple(images.shape[1:]), labels.dtype, chance))
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=0.1)
    for batch in torch.randperm(len(images)).split(32):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[batch] / 255), labels[batch]).backward()
        optimizer.step()

def fail(model, images, labels, seed):
    raise RuntimeError("no such file: augmentation.json\\nand more")

def give(model, images, labels, seed):
    return model

def spoil(model, images, labels, seed):
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(float("nan"))

def leave(model, images, labels, seed):
    sys.exit(0)

def forget(model, images, labels, seed):
    model = torch.nn.Linear(1, 1)

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "training_of_mine", raising=False)
    path = tmp_path / "training_of_mine.py"
    path.write_text(MODULE)
    return path


@pytest.fixture
def store(references: ReferenceStore, module: Path, tmp_path: Path) -> ReferenceStore:
    architecture = Architecture(
        name="tests.brought:net", width=None, image_shape=(1, 8, 8), classes=10
    )
    recipe = OwnRecipe.of("training_of_mine:note")
    return replace(
        references,
        store=Store(tmp_path / "store"),
        architecture=architecture,
        recipe=recipe,
        references=1,
        stages=(),
    )


def test_it_trains_each_model_as_a_single_epoch(store: ReferenceStore) -> None:
    chances = random.getstate(), repr(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    told = list[tuple[Member, int]]()
    assert store.fill(progress=lambda member, epoch, _loss: told.append((member, epoch))) == 2
    assert told == [(member, 1) for member in store.members]
    assert random.getstate() == chances[0]
    assert repr(np.random.get_state()) == chances[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), chances[2])
    seen = sys.modules["training_of_mine"].SEEN
    # Not our wrapper: the module that the user's function has built.
    assert seen[0][:4] == ("Sequential", torch.uint8, (1, 8, 8), torch.int64)
    assert seen[0][4] != seen[1][4]
    # The same again trains the same model.
    original = store.load(store.original)
    other = store.training(store.original, torch.device("cpu"))
    other.epoch()
    for name, weight in other.model.state_dict().items():
        assert torch.equal(weight, original.state_dict()[name])


def test_changed_code_trains_other_models(store: ReferenceStore, module: Path) -> None:
    before = store.key(store.original)
    module.write_text(MODULE.replace("lr=0.1", "lr=0.2"))
    with pytest.raises(InputError, match="has changed since the plan was made"):
        store.training(store.original, torch.device("cpu")).epoch()
    changed = replace(store, recipe=OwnRecipe.of("training_of_mine:note"))
    assert changed.key(store.original) != before


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("note", None),
        ("fail", "does not train this model (no such file: augmentation.json)"),
        ("give", "returns something; it must train the model in place and return nothing"),
        ("spoil", "does not train this model (output of the model is not finite)"),
        ("leave", "does not train this model (it raises SystemExit)"),
        ("forget", "changed no weight on 8 images; it must train the model in place"),
    ],
)
@pytest.mark.usefixtures("module")
def test_it_is_tried_before_anything_is_trained(function: str, message: str | None) -> None:
    name = f"training_of_mine:{function}"
    rehearsal = Rehearsal(
        architecture=Architecture(name="cnn", width=4, image_shape=(1, 8, 8), classes=5),
        method="finetune",
        hyperparameters={},
        stages=(),
        with_labels=True,
        forgotten=(),
        forgets=2,
        recipe=OwnRecipe.of(name),
    )
    if message is None:
        assert rehearsal.run() == []
        return
    if function == "forget":
        (warning,) = rehearsal.run()
        assert warning == f"references.recipe = {name!r}: {message}"
        return
    with pytest.raises(InputError) as raised:
        rehearsal.run()
    assert str(raised.value).startswith(f"references.recipe = {name!r}: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("training_of_mine", "must name a function, package.module:function"),
        ("training_of_mine:", "must name a function, package.module:function"),
        ("nowhere:train", "cannot be imported (No module named 'nowhere')"),
        ("training_of_mine:number", "is not a function"),
        ("training_of_mine:train", "cannot be imported (module 'training_of_mine' has no attr"),
    ],
)
@pytest.mark.usefixtures("module")
def test_a_name_without_a_function_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        find_train(name)
    assert str(raised.value).startswith(f"references.recipe = {name!r}: {message}")


def test_a_module_without_a_source_is_refused() -> None:
    with pytest.raises(InputError, match="sys has no source file"):
        OwnRecipe.of("sys:exit")
    with pytest.raises(InputError, match="there is no module nowhere"):
        OwnRecipe.of("nowhere:train")


def test_torchvisions_networks_are_handed_over_whole() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    prepared = Wrapped(network, (1, 8, 8), (0.5,), (0.2,), rgb=True)
    assert brought(prepared) is prepared
    plain = Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), (1, 8, 8))
    assert brought(plain) is plain.network
