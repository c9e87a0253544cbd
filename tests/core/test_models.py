"""Classifiers of every kind: what a search, a generator and a registry need of each."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torchvision.models import get_model_weights
from torchvision.models.feature_extraction import create_feature_extractor

from mixunlearn.errors import InputError
from mixunlearn.generator import MixBlock
from mixunlearn.inference import predict
from mixunlearn.methods.retrain import Retrain
from mixunlearn.models import Pretrained, StagedModel, build_model
from mixunlearn.models.maps import as_map, few
from mixunlearn.models.wrapped import Wrapped
from mixunlearn.references import ReferenceStore

CPU = torch.device("cpu")
CLASSES = 5
OWN = """
from torch import nn

class Mean(nn.Module):
    def forward(self, images):
        return images.mean((2, 3))

def small(*, channels, size, classes, width=4):
    stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Dropout())
    return nn.Sequential(stem, body, nn.MaxPool2d(2), Mean(), nn.Linear(width, classes))

def stubborn(*, channels, size, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], 1000))

def flat(*, channels, size, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))

class Within(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, images):
        return self.module(images)

def parallel(**options):
    return Within(flat(**options))

class Pair(nn.Module):
    def forward(self, images):
        return images, images

def pair(*, channels, size, classes):
    return Pair()
"""


class Case(NamedTuple):
    """A model, the images it is built for, and the shape of its default stage."""

    name: str
    image_shape: tuple[int, int, int]
    width: int | None
    stage: str
    features: tuple[int, int, int]

    def build(self, seed: int = 0) -> StagedModel:
        return build_model(
            self.name,
            image_shape=self.image_shape,
            classes=CLASSES,
            seed=seed,
            width=self.width,
        )

    def images(self, count: int = 2) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(count, *self.image_shape, generator=generator)


CASES = [
    Case("cnn", (1, 28, 28), 4, "pool2", (8, 7, 7)),
    Case("convnet", (3, 32, 32), 4, "block2", (8, 8, 8)),
    Case("resnet18", (3, 32, 32), 4, "layer3", (16, 8, 8)),
    Case("resnet34", (1, 28, 28), 4, "layer3", (16, 7, 7)),
    Case("resnet50", (3, 32, 32), 4, "layer3", (64, 8, 8)),
    Case("resnet50", (3, 96, 64), 2, "layer3", (32, 24, 16)),
    Case("resnet18", (3, 96, 96), 2, "layer3", (8, 6, 6)),
    Case("vit", (1, 28, 28), 16, "encoder.layers.encoder_layer_4", (16, 7, 7)),
    Case("vit", (3, 112, 112), 8, "encoder.layers.encoder_layer_4", (8, 14, 14)),
    Case("swin", (3, 32, 32), 8, "features.5", (32, 4, 4)),
    Case("swin", (1, 28, 40), 8, "features.5", (32, 4, 5)),
    Case("torchvision:mobilenet_v3_small", (1, 32, 32), None, "features.3", (24, 4, 4)),
    Case("torchvision:mnasnet0_5", (3, 28, 28), None, "layers.9", (24, 4, 4)),
    Case("own_models:small", (2, 16, 12), None, "1", (4, 8, 6)),
]


@pytest.fixture(autouse=True)
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_models.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


def equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(map(torch.equal, first.values(), second.values()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.image_shape[1]}")
class TestEveryModel:
    def test_the_generator_can_read_the_default_stage(self, case: Case) -> None:
        model, pixels = case.build(), (case.images() * 255).to(torch.uint8)
        assert model.default_stage == case.stage
        assert len(model.stage_names) <= 5
        probs, features = predict(model, pixels, model.stage_names)
        assert probs.shape == (2, CLASSES)
        assert {name: found.dtype for name, found in features.items()} == dict.fromkeys(
            model.stage_names, torch.float16
        )
        found = features[case.stage]
        assert found.shape == (2, *case.features)
        masks = MixBlock(found.shape[1])(found, found, 0.5, case.image_shape[1:])
        torch.testing.assert_close(masks.sum(1), torch.ones(2, *case.image_shape[1:]))

    def test_equal_seeds_give_equal_weights_and_nothing_draws_from_the_global_generator(
        self, case: Case
    ) -> None:
        before = torch.get_rng_state()
        first, second = case.build(1), case.build(1)
        assert equal(first.state_dict(), second.state_dict())
        assert not equal(first.state_dict(), case.build(2).state_dict())
        first.train()(case.images(3)).sum().backward()
        assert torch.equal(torch.get_rng_state(), before)

    def test_copies_and_loaded_states_say_the_same(self, case: Case) -> None:
        model, images = case.build(1).eval(), case.images()
        model.forward_with_features(images, model.stage_names)
        other = case.build(2).eval()
        other.load_state_dict(dict(model.state_dict()))
        logits = model(images)
        assert torch.equal(deepcopy(model)(images), logits)
        assert torch.equal(other(images), logits)
        assert not any(module._forward_hooks for module in model.modules())

    def test_it_computes_where_and_how_it_is_told_to(self, case: Case) -> None:
        model = case.build().double()
        assert model(case.images().double()).dtype == torch.float64
        assert model.to("meta")(case.images().to("meta", torch.float64)).shape == (2, CLASSES)

    @pytest.mark.filterwarnings("ignore:There is a performance drop")
    def test_it_can_be_called_with_other_weights_and_vectorised(self, case: Case) -> None:
        model, images = case.build().eval(), case.images(3)
        noise = torch.Generator().manual_seed(0)
        weights = {
            name: torch.randn(tensor.shape, generator=noise) / 10
            for name, tensor in model.named_parameters()
        }

        def one(image: Tensor) -> Tensor:
            logits: Tensor = functional_call(model, weights, image[None])[0]
            return logits

        expected = functional_call(model, weights, images)
        assert not torch.allclose(model(images), expected)
        torch.testing.assert_close(vmap(one)(images), expected, rtol=1e-3, atol=1e-5)


def test_a_wrapped_model_can_be_exported_for_any_number_of_images() -> None:
    case = Case("torchvision:squeezenet1_1", (3, 32, 32), None, "", (0, 0, 0))
    model = case.build().eval()
    batch = {0: torch.export.Dim.AUTO}  # as MLflow exports it
    program = torch.export.export(model, (case.images(),), dynamic_shapes=(batch,)).module()
    for count in (1, 3):
        torch.testing.assert_close(program(case.images(count)), model(case.images(count)))


def test_features_are_the_named_modules_outputs() -> None:
    model = Case("torchvision:mobilenet_v3_small", (3, 32, 32), None, "", (0, 0, 0)).build().eval()
    assert isinstance(model, Wrapped)
    names, images = ["features.3", "features.4.block.0"], torch.rand(2, 3, 32, 32)
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    sd = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    expected = create_feature_extractor(model.network, names)((images - mean) / sd)
    logits, found = model.forward_with_features(images, names)
    for name in names:
        torch.testing.assert_close(found[name], expected[name])
    torch.testing.assert_close(logits, model(images))


def test_a_grey_image_is_seen_as_one_of_three_equal_channels() -> None:
    grey, coloured = (
        Case("swin", (channels, 16, 16), 8, "", (0, 0, 0)).build(3).eval() for channels in (1, 3)
    )
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(grey(images), coloured(images.repeat(1, 3, 1, 1)))


def test_the_class_token_is_no_position() -> None:
    model = Case("vit", (3, 8, 8), 8, "", (0, 0, 0)).build().eval()
    last, images = "encoder.layers.encoder_layer_6", torch.rand(2, 3, 8, 8)
    features = model.forward_with_features(images, [last])[1][last]
    assert isinstance(model, Wrapped)
    network = create_feature_extractor(model.network, [last])
    tokens = network((images - 0.5) / 0.5)[last]
    for row, column in ((0, 0), (2, 5), (7, 7)):
        torch.testing.assert_close(features[:, :, row, column], tokens[:, 1 + 8 * row + column])


# --- which outputs are feature maps ----------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((2, 5, 8, 8), (32, 32), (5, 8, 8)),
        ((2, 8, 8, 5), (32, 32), (5, 8, 8)),
        ((2, 64, 5), (32, 32), (5, 8, 8)),
        ((2, 65, 5), (32, 32), (5, 8, 8)),
        ((2, 5, 4, 6), (32, 48), (5, 4, 6)),
        ((2, 4, 6, 5), (32, 48), (5, 4, 6)),
        ((2, 25, 5), (32, 48), (5, 4, 6)),
        ((2, 5, 4, 3), (28, 20), (5, 4, 3)),  # rounded
        ((2, 5, 1, 1), (32, 32), None),
        ((2, 5, 64, 64), (32, 32), None),
        ((2, 5, 4, 8), (32, 32), None),
        ((2, 63, 5), (32, 32), None),
        ((2, 5), (32, 32), None),
    ],
)
def test_feature_maps_are_known_by_their_shape(
    shape: tuple[int, ...], size: tuple[int, int], expected: tuple[int, int, int] | None
) -> None:
    found = as_map(torch.zeros(shape), size)
    assert (found if found is None else tuple(found.shape[1:])) == expected


def test_every_order_of_axes_is_the_same_map() -> None:
    features = torch.rand(2, 5, 4, 6)
    tokens = features.flatten(2).transpose(1, 2)
    with_class = torch.cat((torch.rand(2, 1, 5), tokens), dim=1)
    for output in (features, features.permute(0, 2, 3, 1), tokens, with_class):
        found = as_map(output, (32, 48))
        assert found is not None
        assert torch.equal(found, features)


def test_few_stages_are_offered() -> None:
    shapes = {
        **{"stem": 64, "a.conv": 32, "a": 32, "b.conv": 16, "b": 16, "c": 8, "d": 4, "e.conv": 2},
        "pool": 7,  # larger again
    }
    maps = {name: (3, side, side) for name, side in shapes.items()}
    assert few(maps) == ("a", "b", "c", "d", "e.conv")
    blocks = {f"blocks.{number}": (3, 4, 4) for number in range(9)}
    assert few({"patches": (3, 4, 4), **blocks}) == ("blocks.1", "blocks.3", "blocks.5", "blocks.8")
    assert few({}) == ()


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "image_shape", "message"),
    [
        ("cn", (1, 8, 8), "unknown; did you mean 'cnn'?"),
        ("torchvision:resnet", (3, 32, 32), "did you mean 'resnet"),
        ("no_such_package:small", (1, 8, 8), "cannot be imported (No module named"),
        ("own_models:large", (1, 8, 8), "cannot be imported (module 'own_models' has no"),
        ("own_models:stubborn", (1, 8, 8), "gives 1000 outputs for 5 classes"),
        ("own_models:pair", (1, 8, 8), "gives something else than logits"),
        ("torchvision:alexnet", (3, 28, 28), "images of 3×28×28 (Given input size: (192x2x2)"),
        ("torchvision:mobilenet_v3_small", (4, 32, 32), "1 or 3 channels, these have 4"),
        ("vit", (3, 29, 29), "29 pixels cannot be cut into 4 to 8 equal patches"),
        ("vit", (3, 32, 48), "Wrong image width"),
        ("resnet50", (1, 7, 9), "images of 7×9 are too small"),
    ],
)
def test_what_cannot_be_built_is_refused(
    name: str, image_shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(InputError) as raised:
        Case(name, image_shape, None, "", (0, 0, 0)).build()
    assert str(raised.value).startswith(f"model.name = '{name}': ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_factory_without_a_width_is_given_none() -> None:
    with pytest.raises(InputError, match="unexpected keyword argument 'width'"):
        Case("own_models:flat", (1, 8, 8), 3, "", (0, 0, 0)).build()


def test_an_unknown_stage_names_those_there_are() -> None:
    model = Case("own_models:small", (1, 16, 16), None, "", (0, 0, 0)).build()
    assert model.stages_with([]) == model.stage_names == ("0.1", "1", "2")
    assert model.stages_with(["1", "1.0", "1.0"]) == ("0.1", "1", "2", "1.0")
    with pytest.raises(InputError) as raised:
        model.stages_with(["0", "layer3"])
    line = str(raised.value)
    assert line.startswith("search.space.stage = 'layer3': gives no feature map; did you mean")
    assert "0: 4×8×8, 1: 4×8×8, 2: 4×4×4, 0.0: 4×16×16" in line
    assert "\n" not in line
    with pytest.raises(KeyError):
        model.forward_with_features(torch.rand(1, 1, 16, 16), ["layer3"])


def test_a_model_without_feature_maps_has_no_stages() -> None:
    model = Case("own_models:flat", (1, 8, 8), None, "", (0, 0, 0)).build()
    assert (model.stage_names, model.default_stage) == ((), "")


# --- pretrained weights ----------------------------------------------------------------------


def small(classes: int, seed: int) -> StagedModel:
    name = "own_models:small"
    return build_model(name, image_shape=(1, 8, 8), classes=classes, seed=seed, width=None)


def plain(model: StagedModel) -> dict[str, Tensor]:
    """Return a network's state as other programs save it: without our prefix."""
    return {
        name.removeprefix("network."): tensor.contiguous()
        for name, tensor in model.state_dict().items()
    }


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    save_file(plain(small(7, seed=1)), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def read(path: Path) -> Pretrained:
    return Pretrained.read(str(path), "own_models:small")


def test_all_but_a_head_of_another_size_is_taken(weights_file: Path) -> None:
    model, fresh = small(CLASSES, seed=2), plain(small(CLASSES, seed=2))
    read(weights_file).put_into(model)
    taken, given = plain(model), plain(small(7, seed=1))
    assert torch.equal(taken["4.weight"], fresh["4.weight"])
    assert all(torch.equal(taken[name], given[name]) for name in given if name[0] != "4")
    same = small(7, seed=2)
    read(weights_file).put_into(same)
    assert equal(plain(same), given)


def test_a_digest_does_not_depend_on_place_format_or_who_saved(
    tmp_path: Path, weights_file: Path
) -> None:
    model = small(7, seed=1)
    torch.save(plain(model), tmp_path / "other.pth")
    assert read(tmp_path / "other.pth").digest == read(weights_file).digest
    save_file(plain(small(7, seed=2)), tmp_path / "other.safetensors")
    assert read(tmp_path / "other.safetensors").digest != read(weights_file).digest
    ours = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(ours, tmp_path / "ours.safetensors")
    other = small(7, seed=3)
    read(tmp_path / "ours.safetensors").put_into(other)
    assert equal(other.state_dict(), model.state_dict())


def test_weights_are_read_as_any_program_saves_them(weights_file: Path) -> None:
    state, expected = plain(small(7, seed=1)), read(weights_file).digest
    imaginary = torch.complex(torch.zeros(7), -state["4.bias"]).conj().imag
    assert imaginary.is_neg()
    forms: dict[str, object] = {
        "parameters.pt": {name: nn.Parameter(tensor) for name, tensor in state.items()},
        "sparse.pt": {name: tensor.to_sparse() for name, tensor in state.items()},
        "negative.pt": {**state, "4.bias": imaginary},
        "double.bin": {name: tensor.double() for name, tensor in state.items()},
        "parallel.pt": {f"module.{name}": tensor for name, tensor in state.items()},
        "averaged.pt": {"n_averaged": torch.tensor(3)}
        | {f"module._orig_mod.{name}": tensor for name, tensor in state.items()},
        "checkpoint.ckpt": {"epoch": 3, "optimizer": {}, "state_dict": state},
        "model": {"model": state},
    }
    for name, form in forms.items():
        torch.save(form, weights_file.with_name(name))
        assert read(weights_file.with_name(name)).digest == expected, name
    renamed = weights_file.rename(weights_file.with_name("weights.bin"))
    assert read(renamed).digest == expected


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_weights_are_taken_as_the_numbers_they_stand_for(tmp_path: Path) -> None:
    state = plain(small(CLASSES, seed=1))
    quantised = torch.quantize_per_tensor(state["4.weight"], 0.01, 0, torch.qint8)
    torch.save({**state, "4.weight": quantised}, tmp_path / "quantised.pt")
    model = small(CLASSES, seed=2)
    read(tmp_path / "quantised.pt").put_into(model)
    assert torch.equal(plain(model)["4.weight"], quantised.dequantize())


def test_a_wrapper_may_be_a_part_of_the_network(tmp_path: Path) -> None:
    source, model = (
        build_model("own_models:parallel", image_shape=(1, 8, 8), classes=5, seed=seed, width=None)
        for seed in (1, 2)
    )
    torch.save(plain(source), tmp_path / "weights.pt")
    read(tmp_path / "weights.pt").put_into(model)
    assert equal(model.state_dict(), source.state_dict())


def test_a_norm_may_lack_its_counter_and_files_may_hold_more() -> None:
    case = Case("torchvision:mnasnet0_5", (3, 32, 32), None, "", (0, 0, 0))
    state = plain(case.build(1))
    tensors = {name: t.numpy() for name, t in state.items() if "num_batches" not in name}
    pretrained = Pretrained(
        source="x", tensors={**tensors, "aux.weight": tensors["layers.0.weight"]}
    )
    model = case.build(2)
    pretrained.put_into(model)
    assert equal(plain(model), state)


def test_published_weights_are_taken_from_torchs_own_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    url = get_model_weights("densenet121").DEFAULT.url
    file = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    block = "features.denseblock1.denselayer1"
    torch.save({f"{block}.norm.1.weight": torch.ones(3)}, file)
    pretrained = Pretrained.read("DEFAULT", "torchvision:densenet121")
    assert list(pretrained.tensors) == [f"{block}.norm1.weight"]  # today's name


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone.safetensors", "no such file"),
        (".", "is not a regular file"),
        ("empty.pt", "cannot be read (the file is empty)"),
        ("numbered.pt", "does not hold tensors by name"),
        ("meta.pt", "network.4.bias has no values (on the meta device)"),
        ("nan.pt", "network.1.0.bias is not finite; use the weights of a sound model"),
        ("large.pt", "network.1.0.bias is not finite"),
        ("complex.pt", "network.1.0.bias is complex64, in the model it is float32; convert it"),
        ("whole.pt", "network.1.0.bias is int64, in the model it is float32; convert it first"),
        ("broken.safetensors", "cannot be read"),
        ("code.pth", "holds Python objects, which could run any code, or no weights"),
        ("list.pt", "does not hold tensors by name"),
        ("lacking.safetensors", "lacks network.0.0.bias, network.1.0.weight, network.1.0.bias and"),
        ("wider.safetensors", "network.0.0.weight is 8×1×3×3, in the model it is 4×1×3×3"),
    ],
)
def test_weights_of_another_model_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.safetensors").write_bytes(b"nonsense")
    Path("empty.pt").write_bytes(b"")
    state = dict(small(CLASSES, seed=1).state_dict())
    torch.save({1: torch.zeros(1)}, "numbered.pt")
    torch.save({**state, "network.4.bias": torch.zeros(5, device="meta")}, "meta.pt")
    bias = state["network.1.0.bias"]
    for name, values in {
        "nan": bias / 0 * 0,
        "large": bias.double() + 1e300,
        "complex": bias.to(torch.complex64).conj(),
        "whole": bias.long(),
    }.items():
        torch.save({**state, "network.1.0.bias": values}, f"{name}.pt")
    torch.save(nn.Linear(1, 1), "code.pth")
    torch.save([torch.zeros(1)], "list.pt")
    save_file({"0.0.weight": torch.zeros(4, 1, 3, 3)}, "lacking.safetensors")
    wide = build_model("own_models:small", image_shape=(1, 8, 8), classes=5, seed=0, width=8)
    save_file(plain(wide), "wider.safetensors")
    with pytest.raises(InputError) as raised:
        read(Path(source)).put_into(small(CLASSES, seed=0))
    assert str(raised.value).startswith(f"model.weights = '{source}': ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_originals_references_and_retraining_start_from_the_weights(
    references: ReferenceStore, tmp_path: Path
) -> None:
    source = references.architecture.build(9)
    save_file(plain(source), tmp_path / "cnn.safetensors")
    pretrained = Pretrained.read(str(tmp_path / "cnn.safetensors"), "cnn")
    architecture = replace(references.architecture, weights=pretrained.digest)
    started = replace(references, architecture=architecture, pretrained=pretrained)
    for member in started.members:
        assert equal(started.training(member, CPU).model.state_dict(), source.state_dict())
        assert started.key(member) != references.key(member)
    problem = replace(references.problem(with_labels=True), pretrained=pretrained)
    method = Retrain()
    method.prepare(problem.context(CPU, 0))
    assert equal(method.model.state_dict(), source.state_dict())
    assert not equal(method.context.fresh(0).state_dict(), source.state_dict())


def test_without_weights_keys_are_those_of_earlier_versions(references: ReferenceStore) -> None:
    described = {"name": "cnn", "width": 8, "image_shape": (1, 8, 8), "classes": 10}
    assert references.payload(references.original)["architecture"] == described
    assert replace(references.architecture, width=None).content == {**described, "width": None}


def test_a_model_is_loaded_without_the_file_it_started_from(references: ReferenceStore) -> None:
    architecture = replace(references.architecture, weights="0" * 64)
    weights = {name: t.numpy() for name, t in architecture.build(1).state_dict().items()}
    assert equal(architecture.load(weights).state_dict(), architecture.build(1).state_dict())
