"""Models of others: each works with a method, or is refused in one line before any training."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS
from mixunlearn.models import MODELS
from mixunlearn.problem import Architecture
from mixunlearn.recipes import Recipe
from mixunlearn.rehearsal import Rehearsal
from mixunlearn.training import Training
from mixunlearn.trial import Unlearning
from search_spaces import SPACES


class Net(nn.Module):
    """A convolution, a batch norm, and two linear layers; subclasses differ from it in one way."""

    def __init__(self, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.hidden = nn.Linear(4 * size[0] * size[1] // 4, 6)
        self.head = nn.Linear(6, classes)
        self.build()

    def build(self) -> None: ...

    def maps(self, images: Tensor) -> Any:
        return F.max_pool2d(F.relu(self.again(F.relu(self.norm(self.conv(images))))), 2)

    def forward(self, images: Tensor) -> Any:
        return self.head(F.relu(self.hidden(self.maps(images).flatten(1))))


class Plain(Net): ...


class Viewing(Net):
    def forward(self, images: Tensor) -> Any:
        maps = self.maps(images.view(len(images), *images.shape[1:]))
        return self.head(F.relu(self.hidden(maps.view(len(images), -1))))


class Reading(Net):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images) * (1.0 if images.sum().item() > -1 else 2.0)


class Writing(Net):
    def forward(self, images: Tensor) -> Any:
        total = torch.zeros(len(images), 6)
        total += self.hidden(self.maps(images).flatten(1))
        return self.head(total)


class Alone(Net):
    def maps(self, images: Tensor) -> Any:
        pooled = F.adaptive_avg_pool2d(self.conv(images), 1)
        return self.norm(pooled).expand(-1, -1, 4, 4)


class Tied(Net):
    def build(self) -> None:
        self.twice = self.again


class Shared(Net):
    def build(self) -> None:
        self.third = nn.Conv2d(4, 4, 3, padding=1)
        self.third.weight = self.again.weight

    def maps(self, images: Tensor) -> Any:
        return F.relu(self.third(super().maps(images)))


class Normed(Net):
    def build(self) -> None:
        parametrizations.weight_norm(self.again)


class Spectral(Net):
    def build(self) -> None:
        parametrizations.spectral_norm(self.again)


class Auxiliary(Net):
    def forward(self, images: Tensor) -> Any:
        logits = super().forward(images)
        return (logits, logits) if self.training else logits


class Reversed(Net):
    def build(self) -> None:
        self._modules["hidden"] = self._modules.pop("hidden")  # now it is defined last


class Hard(Net):
    def maps(self, images: Tensor) -> Any:
        return F.hardsigmoid(super().maps(images))


class Evaluated(Net):
    def forward(self, images: Tensor) -> Any:
        if self.training:
            raise RuntimeError("only for evaluation")
        return super().forward(images)


class Detached(Net):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images).detach()


class Quitting(Net):
    def forward(self, images: Tensor) -> Any:
        if self.training:
            raise SystemExit(0)
        return super().forward(images)


class Endless(Net):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images) / images.sum().mul(0)


class Fixed(Net):
    def build(self) -> None:
        self.requires_grad_(False)


class Half(Net):
    def build(self) -> None:
        self.again.requires_grad_(False)
        self.hidden.bias.requires_grad_(False)


class Chancy(Net):
    def forward(self, images: Tensor) -> Any:
        return F.dropout(super().forward(images), training=self.training)


class Always(Net):
    def forward(self, images: Tensor) -> Any:
        return F.dropout(super().forward(images))


class Squeezing(Net):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images).squeeze()


class Certain(Net):
    def forward(self, images: Tensor) -> Any:
        return torch.softmax(super().forward(images), dim=1)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    known: Any = MODELS
    added = {each.__name__: each for each in FOREIGN}
    monkeypatch.setattr(known, "_names", (*known._names, *added))
    monkeypatch.setattr(known, "_known", {**known._known, **added})


FOREIGN = Net.__subclasses__()


def rehearsal(model: type[Net], method: str, forgets: int = 3, **chosen: Any) -> Rehearsal:
    architecture = Architecture(name=model.__name__, width=None, image_shape=(1, 8, 8), classes=4)
    built = architecture.build(0)
    space = SPACES[method](built.stage_names, built.default_stage)
    return Rehearsal(
        architecture=architecture,
        method=method,
        hyperparameters={**space.defaults({"labels": "aware"}), **chosen},
        stages=built.stage_names,
        with_labels=True,
        forgotten=(0,),
        forgets=forgets,
    )


@pytest.mark.parametrize(
    ("model", "methods"),
    [
        (Viewing, "finetune mixunlearn ssd mu_mis laf"),
        (Reading, "ssd fisher"),
        (Writing, "ssd fisher finetune"),
        (Tied, "msg ct salun"),
        (Shared, "msg ct ssd"),
        (Normed, "finetune ssd scrub eu_k ct"),
        (Spectral, "finetune salun msg"),
        (Auxiliary, "finetune scrub mixunlearn boundary"),
        (Reversed, "laf laf_r"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_others_do_works(model: type[Net], methods: str) -> None:
    for method in methods.split():
        assert rehearsal(model, method).run() == []


@pytest.mark.parametrize("method", ["ascent", "boundary", "scrub"])
def test_one_image_is_enough_where_a_batch_norm_sees_one_value(method: str) -> None:
    assert rehearsal(Alone, method, forgets=1).run() == []


@pytest.mark.parametrize(
    ("model", "method", "key", "message"),
    [
        (Hard, "influence", "method", "not implemented"),
        (Hard, "mu_mis", "method", "does not work with the model Hard (derivative for"),
        (Evaluated, "finetune", "model.name", "cannot be trained (only for evaluation)"),
        (Detached, "finetune", "model.name", "cannot be trained (element 0 of tensors"),
        (Quitting, "finetune", "model.name", "cannot be trained (it raises SystemExit)"),
        (
            Endless,
            "finetune",
            "model.name",
            "cannot be trained (output of the model is not",
        ),
        (Fixed, "finetune", "model.name", "has no weights that can be trained"),
    ],
)
def test_what_cannot_work_is_refused(model: type[Net], method: str, key: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        rehearsal(model, method).run()
    value = model.__name__ if key == "model.name" else method
    assert str(raised.value).startswith(f"{key} = {value!r}: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_model_that_drops_the_axis_of_a_single_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"Squeezing.* for one image"):
        Architecture(name="Squeezing", width=None, image_shape=(1, 8, 8), classes=4).build(0)


def test_what_is_doubtful_is_said() -> None:
    (dropout,) = rehearsal(Always, "finetune").run()
    assert dropout.startswith("model.name = 'Always': gives other outputs for the same images in")
    (softmax,) = rehearsal(Certain, "finetune").run()
    assert softmax.startswith("model.name = 'Certain': gives probabilities where logits are")


def test_dropout_follows_the_seed_of_a_trial() -> None:
    rehearsed = rehearsal(Chancy, "finetune")
    assert rehearsed.run() == []
    context = rehearsed._context(rehearsed.architecture.build(0))

    def unlearned(*, interrupted: bool = False) -> Tensor:
        torch.rand(1)  # others draw from the global generator as well
        work = Unlearning(METHODS["finetune"](lr=0.1, batch=4), context)
        work.unlearn()
        if interrupted:
            state = deepcopy(work.state_dict())
            work = Unlearning(METHODS["finetune"](lr=0.1, batch=4), context)
            work.load_state_dict(state)
        work.unlearn()
        return torch.cat([weight.flatten() for weight in work.method.model.parameters()])

    assert torch.equal(unlearned(), unlearned())
    assert torch.equal(unlearned(), unlearned(interrupted=True))


def test_dropout_follows_the_seed_of_training() -> None:
    rehearsed = rehearsal(Chancy, "finetune")
    samples, recipe = rehearsed._samples(range(8)), Recipe(epochs=2, batch=4)

    def losses() -> list[float]:
        torch.rand(1)
        training = Training(rehearsed.architecture.build(0), samples, recipe, seed=0)
        return [training.epoch()["loss"] for _ in range(2)]

    assert losses() == losses()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("forgets", [1, 2])
def test_a_class_of_one_image_and_two_images_are_forgotten(method: str, forgets: int) -> None:
    rehearsed = rehearsal(Plain, method, forgets=forgets)
    if forgets > 1 and not METHODS[method].whole_classes:
        rehearsed = replace(rehearsed, forgotten=())
    model = rehearsed.unlearn(rehearsed.architecture.build(0)).model
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_what_is_frozen_stays_as_it_is(method: str) -> None:
    rehearsed = rehearsal(Half, method)
    model = rehearsed.architecture.build(0)
    rehearsed.train(model)
    before = {name: model.get_parameter(name).clone() for name in model.frozen}
    assert before.keys() == {"network.again.weight", "network.again.bias", "network.hidden.bias"}
    after = rehearsed.unlearn(model).model
    if method not in {"retrain", "sisa", "dsmixup"}:  # these start from other weights
        for name, weight in before.items():
            assert torch.equal(after.get_parameter(name), weight), name


@pytest.mark.parametrize("transposed", [Tied, Shared])
def test_tied_kernels_are_transposed_once(transposed: type[Net]) -> None:
    rehearsed = rehearsal(transposed, "ct", lr=0.0)
    model = rehearsed.architecture.build(0)
    kernel = model.get_parameter("network.again.weight").clone()
    after = rehearsed.unlearn(model).model
    assert torch.equal(after.get_parameter("network.again.weight"), kernel.transpose(2, 3))
