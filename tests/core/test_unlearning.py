"""`unlearn`: a user's own module and images in one call."""

import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from mixunlearn import unlearn
from mixunlearn.data.batches import Samples
from mixunlearn.errors import DivergedError, InputError
from mixunlearn.methods import METHODS
from mixunlearn.methods.finetune import Finetune
from mixunlearn.outcome import Unlearned, assess
from mixunlearn.problem import Problem
from mixunlearn.trial import Trial
from mixunlearn.unlearning import _method

CLASSES, PER_CLASS = 4, 12
SEVERAL = {"sisa", "dsmixup"}  # give several models instead of one
Pair = tuple[Tensor, Tensor]


class Cosine(nn.Module):
    """Logits are scaled cosines: `forward` has no linear layer."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, inputs))
        self.scale = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)
        nn.init.constant_(self.scale, 10.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.normalize(x) @ F.normalize(self.weight).T


class Net(nn.Module):
    """As a user writes it: `view`, dropout, batch norm, a cosine head."""

    def __init__(self, head: Callable[[int, int], nn.Module] = Cosine) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.narrow = nn.Linear(8 * 16, 16)
        self.dropout = nn.Dropout(0.5)
        self.head = head(16, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = F.max_pool2d(self.norm(self.conv(images)).relu(), 2)
        return self.head(self.dropout(self.narrow(x.view(len(x), -1)).relu()))  # type: ignore[no-any-return]


def pictures(count: int, seed: int) -> Pair:
    """Images of four classes, normalised: pixels are about −4 to 5."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(count) % CLASSES
    patterns = torch.randn(CLASSES, 1, 8, 8, generator=torch.Generator().manual_seed(99))
    noise = torch.randn(count, 1, 8, 8, generator=generator)
    return 1.5 * patterns[labels_N] + noise, labels_N


FORGET, RETAIN, HELD_OUT = pictures(6, 1), pictures(CLASSES * PER_CLASS, 2), pictures(24, 3)
OF_CLASS_0 = (FORGET[0][FORGET[1] == 0], FORGET[1][FORGET[1] == 0])
OTHERS = (RETAIN[0][RETAIN[1] != 0], RETAIN[1][RETAIN[1] != 0])


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a model without a trace in the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def trained(parts: Sequence[Pair], head: Callable[[int, int], nn.Module] = Cosine) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Net(head)
        images, labels_N = (torch.cat(part) for part in zip(*parts, strict=True))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(25):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels_N).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Net:
    return trained([FORGET, RETAIN])


@pytest.fixture(scope="module")
def linear() -> Net:
    return trained([FORGET, RETAIN], nn.Linear)


def also(name: str) -> dict[str, Any]:
    """What a method needs besides the images to forget and to retain."""
    return {"held_out": HELD_OUT} if name == "lotus" else {}


def global_state() -> tuple[object, ...]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), kind, list(keys), rest, random.getstate()


@pytest.fixture(autouse=True)
def global_generators_stay() -> Iterator[None]:
    """No test may change the global random generators."""
    before = global_state()
    yield
    assert global_state() == before


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("name", sorted(set(METHODS) - SEVERAL))
class TestEveryMethod:
    def test_it_unlearns_an_own_module(self, name: str, model: Net, linear: Net) -> None:
        # LAF, ESC and a mode of another method read the input of a linear head.
        given = linear if name in {"esc", "laf", "laf_r"} else model
        before = state(given)
        whole = METHODS[name].whole_classes
        sets = (OF_CLASS_0, OTHERS) if whole else (FORGET, RETAIN)
        # By default, SSD changes nothing if D_f is more than a tenth of the images.
        own: dict[str, Any] = {"alpha": 2.0} if name == "ssd" else also(name)
        gone = (0,) if whole else ()
        result = unlearn(given, *sets, name, epochs=2, forgotten=gone, **own)
        assert same(before, state(given))
        assert type(result.model) is Net
        assert list(result.model.state_dict()) == list(before)
        assert not result.model.training
        assert same(before, state(result.model)) == (name == "original")
        assert all(np.isfinite(list(entry.values())).all() for entry in result.history)
        assert len(result.history) == min(2, METHODS[name].ceiling or 2)

    def test_one_image_is_enough(self, name: str, linear: Net) -> None:
        whole = METHODS[name].whole_classes
        one = (FORGET[0][:1], FORGET[1][:1])
        gone = (0,) if whole else ()
        assert unlearn(linear, one, OTHERS, name, epochs=1, forgotten=gone, **also(name)).history

    def test_frozen_parameters_stay(self, name: str, linear: Net) -> None:
        given = trained([RETAIN], nn.Linear)
        given.conv.requires_grad_(False)
        whole = METHODS[name].whole_classes
        sets = (OF_CLASS_0, OTHERS) if whole else (FORGET, RETAIN)
        gone = (0,) if whole else ()
        result = unlearn(given, *sets, name, epochs=1, forgotten=gone, **also(name))
        assert torch.equal(result.model.conv.weight, given.conv.weight)  # type: ignore[union-attr,arg-type]
        flags = [weight.requires_grad for weight in result.model.parameters()]
        assert flags == [weight.requires_grad for weight in given.parameters()]


@pytest.mark.parametrize("name", sorted(SEVERAL))
def test_several_models_are_refused(name: str, model: Net) -> None:
    with pytest.raises(InputError, match="gives several models instead of one of your class"):
        unlearn(model, FORGET, RETAIN, name)


def test_a_method_that_plans_its_course_does_so_for_the_run() -> None:
    assert vars(_method("l1_sparse", {}, "", 3)[1])["decay_epochs"] == 3
    assert vars(_method("msg", {"schedule_epochs": 2}, "", 3)[1])["schedule_epochs"] == 2


@pytest.mark.parametrize(
    ("name", "hyperparameters"),
    [("mixunlearn", {"lr": 1e-3, "stage": "pool2"}), ("salun", {"lr": 1e-3}), ("ssd", {})],
)
@pytest.mark.parametrize("labels", ["aware", "agnostic"])
def test_it_gives_the_weights_of_a_trial(
    problem: Problem, name: str, hyperparameters: dict[str, Any], labels: Any
) -> None:
    if labels == "agnostic" and METHODS[name].needs_labels:
        pytest.skip("it needs labels")
    device = torch.device("cpu")
    problem = Problem(**{**vars(problem), "with_labels": labels == "aware"})
    trial = Trial(problem, name, hyperparameters, seed=3, device=device)
    epochs = METHODS[name].ceiling or 2
    for _ in range(epochs):
        trial.epoch()
    given = problem.architecture.load(problem.original)
    result = unlearn(
        given,
        problem.forget.samples,
        problem.retain.samples,
        name,
        epochs=epochs,
        labels=labels,
        forgotten=(0,),
        seed=3,
        **hyperparameters,
    )
    assert same(state(trial.method.model), state(result.model))


FORMS: dict[str, Callable[[Pair], object]] = {
    "arrays": lambda pair: (pair[0].numpy(), pair[1].numpy()),
    "float64": lambda pair: (pair[0].double(), pair[1].int()),
    "lists": lambda pair: (pair[0].tolist(), pair[1].tolist()),
    "one-hot": lambda pair: (pair[0], F.one_hot(pair[1], CLASSES)),
    "data set": lambda pair: TensorDataset(*pair),
    "subset": lambda pair: Subset(TensorDataset(*pair), range(len(pair[0]))),
    "loader": lambda pair: DataLoader(TensorDataset(*pair), batch_size=4),
    "items": lambda pair: [(image.numpy(), int(label)) for image, label in zip(*pair, strict=True)],
    "samples": lambda pair: Samples(images_NCHW=pair[0], labels_N=pair[1]),
    "columns": lambda pair: (pair[0], pair[1][:, None].double()),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_may_be_given_in_many_forms(form: str, model: Net) -> None:
    wanted = unlearn(model, FORGET, RETAIN, "neggrad", epochs=1)
    found = unlearn(model, FORMS[form](FORGET), FORMS[form](RETAIN), "neggrad", epochs=1)
    assert same(state(wanted.model), state(found.model))


def test_a_shuffled_loader_and_random_pictures_give_the_same_each_time(model: Net) -> None:
    class Noisy(Dataset[Pair]):
        def __len__(self) -> int:
            return len(RETAIN[0])

        def __getitem__(self, place: int) -> Pair:
            shift = torch.rand(()) + np.random.rand() + random.random()  # noqa: NPY002
            return RETAIN[0][place] + shift, RETAIN[1][place]

    runs = [
        unlearn(model, FORGET, DataLoader(Noisy(), 8, shuffle=True), "finetune", epochs=1)
        for _ in range(2)
    ]
    assert same(state(runs[0].model), state(runs[1].model))


def test_bytes_are_scaled_as_everywhere(model: Net) -> None:
    images = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator())
    labels_N = torch.arange(12) % CLASSES
    runs = [
        unlearn(model, (part[:4], labels_N[:4]), (part[4:], labels_N[4:]), "neggrad", epochs=1)
        for part in (images, images.float() / 255)
    ]
    assert same(state(runs[0].model), state(runs[1].model))


class TestTheModel:
    def test_it_keeps_its_modes_and_its_dropout(self) -> None:
        given = trained([RETAIN]).train()
        given.norm.eval()
        result = unlearn(given, FORGET, RETAIN, "finetune", epochs=1).model
        assert isinstance(result, Net)
        assert [m.training for m in result.modules()] == [m.training for m in given.modules()]
        assert result.dropout.p == given.dropout.p == 0.5

    def test_its_memory_layout_and_type_stay(self) -> None:
        given = trained([RETAIN]).half().to(memory_format=torch.channels_last)
        result = unlearn(given, FORGET, RETAIN, "salun", epochs=1, fraction=0.1).model
        assert isinstance(result, Net)
        assert result.conv.weight.dtype == torch.float16
        assert result.conv.weight.stride() == given.conv.weight.stride()
        kept = [
            (a == b).float().mean() for a, b in zip(*map(weights, (given, result)), strict=True)
        ]
        assert 0.5 < torch.stack(kept).mean() < 1

    def test_tied_weights_stay_tied(self) -> None:
        class Tied(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
                self.second.weight = self.first.weight
                self.last = nn.Linear(64, CLASSES)
                self.register_buffer("calls", torch.zeros(()), persistent=False)

            def forward(self, images: Tensor) -> Tensor:
                return self.last(self.second(self.first(images.flatten(1))))  # type: ignore[no-any-return]

        given = seeded(Tied)
        assert isinstance(given, Tied)
        result = unlearn(given, FORGET, RETAIN, "finetune", epochs=1).model
        assert isinstance(result, Tied)
        assert result.second.weight is result.first.weight
        assert not torch.equal(result.first.weight, given.first.weight)

    def test_an_untrained_one_can_be_built_by_a_function(self, model: Net) -> None:
        given = trained([RETAIN])
        given.register_parameter("bias", nn.Parameter(torch.zeros(3)))
        with pytest.raises(InputError, match="Net has no reset_parameters; give fresh="):
            unlearn(given, FORGET, RETAIN, "retrain", epochs=1)

        def fresh() -> Net:
            built = Net()
            built.register_parameter("bias", nn.Parameter(torch.ones(3)))
            return built

        result = unlearn(given, FORGET, RETAIN, "retrain", epochs=1, fresh=fresh).model
        assert result.get_parameter("bias").tolist() == [1, 1, 1]

    def test_the_same_seed_gives_the_same_numbers(self, model: Net) -> None:
        first, second, other = (
            unlearn(model, FORGET, RETAIN, epochs=1, seed=seed) for seed in (1, 1, 2)
        )
        assert same(state(first.model), state(second.model))
        assert not same(state(first.model), state(other.model))

    def test_a_method_may_be_a_class_or_an_instance(self, model: Net) -> None:
        runs = [
            unlearn(model, FORGET, RETAIN, "finetune", epochs=1, lr=1e-3),
            unlearn(model, FORGET, RETAIN, Finetune, epochs=1, lr=1e-3),
            unlearn(model, FORGET, RETAIN, Finetune(lr=1e-3), epochs=1),
        ]
        assert same(state(runs[0].model), state(runs[1].model))
        assert same(state(runs[0].model), state(runs[2].model))

    def test_each_epoch_is_told(self, model: Net) -> None:
        told: list[object] = []
        result = unlearn(model, FORGET, RETAIN, "finetune", epochs=2, on_epoch=told.append)
        assert told == result.history
        assert [entry["epoch"] for entry in result.history] == [1, 2]
        assert len(unlearn(model, FORGET, RETAIN, "finetune").history) == 6
        assert len(unlearn(model, FORGET, RETAIN, "ssd", epochs=9).history) == 1


def weights(model: nn.Module) -> list[Tensor]:
    return [weight.detach() for weight in model.parameters()]


class TestDoubts:
    def test_random_numbers_are_a_warning(self) -> None:
        class Random(Net):
            def forward(self, images: Tensor) -> Tensor:
                return super().forward(images) + F.dropout(torch.ones(CLASSES), 0.5)

        with pytest.warns(UserWarning, match="Random gives other outputs for the same images"):
            unlearn(seeded(Random), FORGET, RETAIN, "original")

    def test_probabilities_are_a_warning(self) -> None:
        given = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES), nn.Softmax(1)))
        with pytest.warns(UserWarning, match="probabilities where logits are needed"):
            unlearn(given, FORGET, RETAIN, "original")

    def test_more_outputs_than_labels_are_a_warning(self) -> None:
        given = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 9)))
        with pytest.warns(UserWarning, match="the model has 9 outputs, but no label is above 3"):
            unlearn(given, FORGET, RETAIN, "original")

    def test_nothing_is_said_of_a_sound_model(self, model: Net) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            unlearn(model, FORGET, RETAIN, "original")


def spoilt(change: Callable[[Net], object]) -> Net:
    given = trained([RETAIN])
    with torch.no_grad():
        change(given)
    return given


IMAGES, LABELS_N = FORGET
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no image": (
        {"forget": (IMAGES[:0], LABELS_N[:0])},
        "forget = 'float32 0×1×8×8': is empty; give at least one image",
    ),
    "an empty list": ({"retain": []}, "retain = 'list': is empty; give at least one image"),
    "a label too high": (
        {"forget": (IMAGES, LABELS_N + 3)},
        "forget = 4: is the label of image 1; the model has the outputs 0 to 3",
    ),
    "a label below 0": ({"retain": (IMAGES, LABELS_N - 1)}, "retain = -1: is the label of image 0"),
    "half a label": ({"forget": (IMAGES, LABELS_N + 0.5)}, "labels must be whole numbers"),
    "words": ({"forget": (IMAGES, ["cat"] * 6)}, "forget = 'tuple': cannot be read"),
    "two hot": ({"forget": (IMAGES, torch.ones(6, 4))}, "one-hot labels must hold one 1 in each"),
    "other lengths": (
        {"forget": (IMAGES, LABELS_N[:5])},
        "forget = 'float32 6×1×8×8': has 5 labels; give one for each image",
    ),
    "no labels": ({"forget": IMAGES}, "has no labels; give a pair (images, labels)"),
    "no channel": ({"forget": (IMAGES[:, 0], LABELS_N)}, "grey images need a channel"),
    "rows": ({"forget": (IMAGES.flatten(1), LABELS_N)}, "images must have the shape (N, channels"),
    "whole numbers": ({"forget": (IMAGES.long(), LABELS_N)}, "images must be uint8, or floating"),
    "NaN": ({"forget": (IMAGES / 0, LABELS_N)}, "image 0 holds NaN or infinity"),
    "a number": ({"forget": 3}, "forget = 'int': give a pair (images, labels), or a data set"),
    "no pairs": ({"forget": [1, 2, 3]}, "forget = 'list': gives int; each item must be a pair"),
    "other sizes": (
        {"retain": (RETAIN[0][..., :7], RETAIN[1])},
        "retain = 'float32 1×8×7': the images of forget are float32 1×8×8; make them alike",
    ),
    "bytes and numbers": (
        {"held_out": (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), [0, 1])},
        "held_out = 'uint8 1×8×8': the images of forget are float32",
    ),
    "another shape than the model's": (
        {"forget": (IMAGES[..., :6], LABELS_N), "retain": (IMAGES[..., :6], LABELS_N)},
        "model = 'Net': does not work on images of 1×8×6",
    ),
    "no model": ({"model": "net"}, "model = 'str': must be a torch.nn.Module"),
    "one output": (
        {"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 1))},
        "model = 'Sequential': gives 1 output",
    ),
    "no logits": ({"model": nn.Conv2d(1, 4, 3)}, "gives something else than logits (B, K)"),
    "a weight that is NaN": (
        {"model": spoilt(lambda net: net.conv.weight.fill_(torch.nan))},
        "model = 'Net': conv.weight is not finite; give a sound model",
    ),
    "an output that is NaN": (
        {"model": spoilt(lambda net: net.conv.weight.fill_(3e38))},
        "model = 'Net': output of the model is not finite",
    ),
    "all frozen": (
        {"model": spoilt(lambda net: net.requires_grad_(False))},
        "model = 'Net': has no weights that can be trained; call requires_grad_(True)",
    ),
    "an unknown method": ({"method": "salum"}, "method = 'salum': unknown; did you mean 'salun'?"),
    "no method": ({"method": 3}, "method = 'int': must be a key of METHODS, or a Method"),
    "an unknown hyperparameter": (
        {"method": "salun", "fracton": 0.1},
        "fracton = 0.1: is no hyperparameter of salun; did you mean fraction or",
    ),
    "a hyperparameter twice": (
        {"method": Finetune(), "lr": 0.1},
        "lr = 0.1: set it in the method that you give",
    ),
    "a rate in words": (
        {"method": "finetune", "lr": "fast"},
        "lr = 'fast': must be a finite number above 0",
    ),
    "a negative rate": ({"lr": -1}, "lr = -1: must be a finite number above 0"),
    "no batch": ({"batch": 0}, "batch = 0: must be a whole number of at least 1"),
    "half a batch": ({"batch": 2.5}, "batch = 2.5: must be a whole number of at least 1"),
    "a useless hyperparameter": (
        {"method": "salun", "fraction": "all"},
        "method = 'salun': does not work with Net",
    ),
    "an unknown stage": ({"stage": "convv"}, "stage = 'convv': gives no feature map"),
    "labels it needs": (
        {"method": "salun", "labels": "agnostic"},
        "method = 'salun': needs labels; choose another method",
    ),
    "an unknown kind of labels": ({"labels": "some"}, "labels = 'some': must be one of aware, agn"),
    "no whole class": (
        {"method": "unsir"},
        "method = 'unsir': can forget nothing but whole classes",
    ),
    "a class that is kept": (
        {"forgotten": [0]},
        "forgotten = (0,): image 1 of forget has the label 1; forget must hold only forgotten",
    ),
    "a class that is not there": ({"forgotten": [4]}, "forgotten = 4: must be a class, 0 to 3"),
    "a class by name": ({"forgotten": ["frog"]}, "forgotten = ['frog']: must be class numbers"),
    "a class without a list": ({"forgotten": 0}, "forgotten = 0: must be class numbers"),
    "no epoch": ({"epochs": 0}, "epochs = 0: must be a whole number of at least 1"),
    "a seed below 0": ({"seed": -1}, "seed = -1: must be a whole number from 0"),
    "an unknown device": ({"device": "gpuu"}, "device = 'gpuu': cannot be used"),
    "a rewind without held-out images": (
        {"method": "scrub", "rewind": True},
        "held_out = None: needed by rewind",
    ),
    "a head that is not linear": ({"method": "laf"}, "model = 'Wrapped': its last layer is not"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, model: Net) -> None:
    changes, message = BAD[case]
    arguments = {"model": model, "forget": FORGET, "retain": RETAIN, "epochs": 1, **changes}
    with pytest.raises(InputError) as caught:
        unlearn(**arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_explode_are_told(model: Net) -> None:
    with pytest.raises(DivergedError):
        unlearn(model, FORGET, RETAIN, "unroll", epochs=2, lr=1e30)


@pytest.fixture(scope="module")
def result(model: Net) -> Unlearned:
    return unlearn(model, FORGET, RETAIN, "neggrad", epochs=2, held_out=HELD_OUT, lr=3e-3)


class TestEvaluation:
    def test_without_retrained_models_nothing_is_claimed(self, result: Unlearned) -> None:
        found = result.evaluate()
        assert found.state == "unverified"
        assert found.before["acc/train_forget"] == 100
        names = {"acc/train_forget", "acc/train_retain", "acc/held_out", "mia/asr"}
        assert found.before.keys() == found.after.keys() == names
        assert "0 retrained models to compare with, 3 are needed" in str(found)
        assert "difference" not in str(found).splitlines()[0]
        assert repr(result).startswith("Unlearned(Net: neggrad, 2 epochs, ")

    def test_one_shows_a_distance_and_three_are_tested(self, result: Unlearned, model: Net) -> None:
        one = result.evaluate(retrained=trained([RETAIN]))
        assert one.state == "unverified"
        assert one.differences.keys() == one.after.keys()
        assert not one.intervals
        three = result.evaluate(retrained=[result.model] * 3)
        assert three.state == "undecided"
        assert "no proof of equivalence" in str(three)
        assert all(value == 0 for value in three.differences.values())

    def test_other_images_may_be_measured(self, result: Unlearned) -> None:
        found = result.evaluate(forget=HELD_OUT, held_out=FORGET)
        assert found.before["acc/held_out"] == 100

    def test_kept_and_forgotten_classes_are_apart(self, model: Net) -> None:
        found = unlearn(
            model, OF_CLASS_0, OTHERS, "finetune", epochs=1, held_out=HELD_OUT, forgotten=(0,)
        ).evaluate()
        assert {"acc/held_out_retain", "acc/held_out_forget"} < found.after.keys()

    def test_without_labels_there_is_no_accuracy(self, model: Net) -> None:
        without = unlearn(model, IMAGES, RETAIN[0], epochs=1, labels="agnostic")
        with_labels = unlearn(model, FORGET, RETAIN, epochs=1, labels="agnostic")
        assert same(state(without.model), state(with_labels.model))
        assert not without.evaluate().after

    def test_a_retrained_model_must_fit(self, result: Unlearned) -> None:
        other = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 9)))
        with pytest.raises(
            InputError, match="retrained = 'Sequential': gives 9 outputs, the given"
        ):
            result.evaluate(retrained=other)

    def test_a_difference_beyond_chance_is_told(self) -> None:
        before, after = {"acc/train_forget": 100.0}, {"acc/train_forget": 0.0}
        retrained = [{"acc/train_forget": value} for value in (90.0, 91.0, 92.0)]
        found = assess(before, after, retrained, {"acc/train_forget": 2.0})
        assert found.state == "different"
        assert "before unlearning" not in str(found)
        assert found.reasons[0] == "from 3 retrained models in accuracy on the forget set, %"
        # Student's t for one more value: 2.92 · 2 · √(4/3) around −91.
        assert found.intervals["acc/train_forget"] == pytest.approx((-97.743, -84.257), abs=1e-3)


def test_that_numbers_cannot_tell_is_said() -> None:
    models = [{"acc/held_out": value} for value in (90.0, 91.0, 92.0)]
    blind = assess({"acc/held_out": 90.0}, {"acc/held_out": 92.0}, models, {})
    seeing = assess({"acc/held_out": 10.0}, {"acc/held_out": 92.0}, models, {})
    assert blind.state == seeing.state == "undecided"
    assert "not even the model before unlearning differs" in str(blind)
    assert "before unlearning" not in str(seeing)


def test_neither_ray_nor_optuna_nor_mlflow_is_imported() -> None:
    code = (
        "import sys, torch\n"
        "from mixunlearn import unlearn\n"
        "model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))\n"
        "pair = torch.rand(4, 1, 4, 4), [0, 1, 0, 1]\n"
        "print(unlearn(model, pair, pair, 'salun').evaluate())\n"
        "assert not {'ray', 'optuna', 'mlflow', 'search_spaces'} & set(sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "unverified" in ran.stdout
