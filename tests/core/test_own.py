"""The user's own model as the original: what is read, kept, refused, and never trained."""

import sys
import types
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mixunlearn.errors import InputError
from mixunlearn.models.factories import find_factory
from mixunlearn.models.own import OwnModel
from mixunlearn.models.wrapped import Wrapped
from mixunlearn.problem import Architecture
from mixunlearn.recipes import Recipe
from mixunlearn.references import Member, ReferenceStore
from mixunlearn.store import Store

SHAPE, CLASSES = (1, 8, 8), 10
MODULE = """
from torch import nn

def net(*, channels, size, classes, width=4):
    network = nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(),
        nn.Linear(width * size[0] * size[1], classes),
    )
    network[0].requires_grad_(False)
    return network
"""


@pytest.fixture(autouse=True)
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brought.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)


def architecture(classes: int = CLASSES, width: int | None = None) -> Architecture:
    return Architecture(name="brought:net", width=width, image_shape=SHAPE, classes=classes)


def trained(classes: int = CLASSES) -> dict[str, Tensor]:
    """Return a network's weights as its owner has them."""
    state = architecture(classes).build(9).state_dict()
    return {name.removeprefix("network."): tensor for name, tensor in state.items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    same = list(a) == list(b) and all(a[name].dtype == b[name].dtype for name in a)
    return same and all(torch.equal(a[name], b[name]) for name in a)


def test_weights_return_to_the_keys_and_formats_of_the_file() -> None:
    state = {
        f"module.{name}": tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in trained().items()
    }
    torch.save({"epoch": 3, "state_dict": state}, "checkpoint.pth.tar")
    own = OwnModel.read("checkpoint.pth.tar", architecture())
    model = architecture().load(own.tensors)
    assert own.names["network.0.weight"] == "module.0.weight"
    assert own.dtypes["network.0.weight"] == torch.float16
    assert equal(own.state_dict(model), state)
    assert equal(own.state_dict(own.tensors), state)


def test_the_digest_knows_the_values_not_the_file() -> None:
    state = trained()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, "a.bin")
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, "b.pt")
    double = {name: t.double() if t.is_floating_point() else t for name, t in state.items()}
    torch.save({f"network.{name}": tensor for name, tensor in double.items()}, "c.pt")
    first, *others = (OwnModel.read(name, architecture()) for name in ("a.bin", "b.pt", "c.pt"))
    assert all(other.digest == first.digest for other in others)
    # Where the module is not installed, the digest is the same.
    assert OwnModel.of_file("b.pt", "brought:net").digest == first.digest
    torch.save({**state, "0.bias": state["0.bias"] + 1}, "d.pt")
    assert OwnModel.read("d.pt", architecture()).digest != first.digest


def test_a_batch_norms_counter_may_be_missing_and_is_not_written_then() -> None:
    state = {name: tensor for name, tensor in trained().items() if "num_batches" not in name}
    torch.save(state, "old.pt")
    own = OwnModel.read("old.pt", architecture())
    assert "network.1.num_batches_tracked" in own.tensors
    assert equal(own.state_dict(architecture().load(own.tensors)), state)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("gone.pt", "no such file"),
        ("empty.pt", "cannot be read (the file is empty)"),
        ("cut.safetensors", "cannot be read"),
        ("cut.pt", "cannot be read"),
        (
            "code.pt",
            "holds Python objects, which could run any code, or no weights",
        ),
        ("text.pt", "is neither a file of torch.save nor one of safetensors"),
        ("script.pt", "is a TorchScript archive, a whole model; save its state_dict()"),
        ("n" * 300, "not a valid path (File name too long)"),
        ("~nobody-here/a.pt", "not a valid path"),
        ("nothing.pt", "does not hold tensors by name"),
        ("lacking.pt", "lacks 4.bias; name the model it was trained as"),
        ("more.pt", "holds head.bias, which the model does not have; name the model"),
        ("other.pt", "4.weight is 7×256, for the classes of these data it is 10×256; use the data"),
        ("wide.pt", "0.weight is 4×2×3×3, in the model it is 4×1×3×3; name the model"),
        ("nan.pt", "network.0.bias is not finite; use the weights of a sound model"),
        ("whole.pt", "0.bias is int64, in the model it is float32; convert it first"),
    ],
)
def test_what_is_not_this_model_is_refused_in_one_line(file: str, message: str) -> None:
    state = trained()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, "whole.safetensors")
    Path("cut.safetensors").write_bytes(Path("whole.safetensors").read_bytes()[:-9])
    Path("empty.pt").touch()
    Path("text.pt").write_text("hello world")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript itself is deprecated
        cast("Any", torch.jit.script(nn.Linear(1, 1))).save("script.pt")
    torch.save(nn.Linear(1, 1), "code.pt")
    contents = {
        "nothing": {},
        "lacking": {name: tensor for name, tensor in state.items() if name != "4.bias"},
        "more": {**state, "head.bias": torch.zeros(1)},
        "other": trained(7),
        "wide": {**state, "0.weight": torch.zeros(4, 2, 3, 3)},
        "nan": {**state, "0.bias": state["0.bias"] / 0 * 0},
        "whole": {**state, "0.bias": state["0.bias"].long()},
    }
    for name, content in contents.items():
        torch.save(content, f"{name}.pt")
    Path("cut.pt").write_bytes(Path("more.pt").read_bytes()[:500])
    with pytest.raises(InputError) as raised:
        OwnModel.read(file, architecture())
    assert str(raised.value).startswith(f"model.original = '{file[:100]}")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.fixture
def store(references: ReferenceStore, tmp_path: Path) -> ReferenceStore:
    """A store whose first original is the user's own model, beside one of the recipe."""
    torch.save(trained(), "model.pt")
    return replace(
        references,
        store=Store(tmp_path / "store"),
        architecture=architecture(),
        recipe=Recipe(epochs=1),
        references=1,
        originals=2,
        stages=(),
        own=OwnModel.read("model.pt", architecture()),
    )


def test_the_own_model_is_the_original_and_is_not_trained(store: ReferenceStore) -> None:
    assert store.trained(store.original)
    assert len(store.missing()) == 3
    progress = set[Member]()
    assert store.fill(progress=lambda member, *_: progress.add(member)) == 2
    assert store.original not in progress
    assert store.missing() == []
    assert store.own is not None
    assert equal(store.own.state_dict(store.load(store.original)), trained())
    problem = store.problem(with_labels=True)
    context = problem.context(torch.device("cpu"), 0)
    assert equal(store.own.state_dict(context.original), trained())
    assert "network.0.weight" in context.original.frozen


def test_its_key_holds_its_digest_and_neither_recipe_nor_initial_weights(
    store: ReferenceStore,
) -> None:
    other = replace(
        store,
        recipe=Recipe(epochs=7),
        architecture=replace(store.architecture, weights="f" * 64),
    )
    assert other.key(store.original) == store.key(store.original)
    second = store.all_originals[1]
    assert other.key(second) != store.key(second)
    assert replace(store, own=None).key(second) == store.key(second)
    torch.save({**trained(), "0.bias": torch.ones(4)}, "other.pt")
    changed = replace(store, own=OwnModel.read("other.pt", architecture()))
    assert changed.key(store.original) != store.key(store.original)


def test_a_store_of_references_alone_has_no_own_model(store: ReferenceStore) -> None:
    alone = replace(store, originals=0)
    assert [member.role for member in alone.missing()] == ["reference"]


def test_where_the_module_is_missing_the_stored_weights_are_taken(store: ReferenceStore) -> None:
    store.fill()
    unfitted = replace(store, own=OwnModel.of_file("model.pt", "brought:net"))
    assert unfitted.missing() == []
    assert list(unfitted.weights(store.original)) == list(store.weights(store.original))


class Answer:
    """What models of Hugging Face return."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class HuggingFace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, CLASSES)

    def forward(self, pixels: Tensor) -> Answer:
        return Answer(self.head(pixels.flatten(1)))


def test_an_object_with_logits_is_an_output() -> None:
    model, images = Wrapped(HuggingFace(), SHAPE), torch.rand(3, *SHAPE)
    for mode in (True, False):
        assert model.train(mode)(images).shape == (3, CLASSES)


def test_models_of_timm_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    network.pretrained_cfg = {"mean": (0.1,) * 3, "std": (0.2,) * 3}  # type: ignore[assignment]
    stand_in = types.ModuleType("timm")
    stand_in.list_models = lambda: ["resnet18", "vit_tiny"]  # type: ignore[attr-defined]
    stand_in.create_model = lambda *_, **options: network  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    model = replace(architecture(), name="timm:resnet18").build(0)
    assert model(torch.rand(2, *SHAPE)).shape == (2, CLASSES)
    with pytest.raises(InputError, match="did you mean 'resnet18'"):
        find_factory("timm:resnet1")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="needs timm: pip install timm"):
        find_factory("timm:resnet18")
