"""Recipes: their schedules and optimizers against PyTorch's, named ones against their sources."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.optim import lr_scheduler

from mixunlearn.data.batches import Samples
from mixunlearn.errors import InputError
from mixunlearn.models import StagedModel, build_model
from mixunlearn.population import most_together, train_epoch
from mixunlearn.recipes import RECIPES, Recipe, make_recipe
from mixunlearn.training import Training

EPOCHS, STEPS = 12, 5


def samples(count: int = 40) -> Samples:
    generator = torch.Generator().manual_seed(0)
    return Samples(
        images_NCHW=torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator),
        labels_N=torch.randint(10, (count,), generator=generator),
    )


def training(recipe: Recipe, seed: int = 0) -> Training:
    model = build_model("cnn", image_shape=(1, 8, 8), classes=10, seed=seed, width=8)
    return Training(model, samples(), recipe, seed)


def rates(recipe: Recipe, steps: int = STEPS) -> list[float]:
    """The learning rate of each step of a whole training."""
    return [recipe.rate(e, step, steps) for e in range(recipe.epochs) for step in range(steps)]


def of_pytorch(
    lr: float, make: Callable[[torch.optim.Optimizer], Any], *, every: int
) -> list[float]:
    """The rates of one of PyTorch's schedulers that goes on after each `every` steps."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, found = make(optimizer), []
    for number in range(EPOCHS * STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (number + 1) % every == 0:
            scheduler.step()
    return found


def test_the_schedules_are_those_of_pytorch() -> None:
    lr = 0.3
    wanted: list[tuple[dict[str, Any], list[float]]] = [
        (
            {"schedule": "cosine"},
            of_pytorch(lr, lambda it: lr_scheduler.CosineAnnealingLR(it, EPOCHS), every=STEPS),
        ),
        (
            {"schedule": "steps", "steps": (0.5, 0.8), "step_factor": 0.2},
            of_pytorch(lr, lambda it: lr_scheduler.MultiStepLR(it, [6, 9], 0.2), every=STEPS),
        ),
        (
            {"schedule": "constant", "warm_up": 0.2},
            of_pytorch(lr, lambda it: lr_scheduler.LinearLR(it, 1 / 12, total_iters=11), every=1),
        ),
    ]
    for keys, expected in wanted:
        found = rates(Recipe(epochs=EPOCHS, lr=lr, **keys))
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12), keys


def test_one_cycle_is_pytorch_s() -> None:
    lr = 0.3
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    total = EPOCHS * STEPS
    scheduler = lr_scheduler.OneCycleLR(
        optimizer,
        lr,
        total_steps=total,
        pct_start=0.3,
        anneal_strategy="linear",
        cycle_momentum=False,
    )
    found = rates(Recipe(epochs=EPOCHS, lr=lr, schedule="one_cycle", warm_up=0.3))
    for number, rate in enumerate(found):
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        if number + 1 < total:
            scheduler.step()


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_short_trainings_have_a_positive_rate(epochs: int) -> None:
    for schedule in ("cosine", "constant", "one_cycle"):
        for warm_up in (0.0, 0.01, 0.99):
            recipe = Recipe(epochs=epochs, schedule=schedule, warm_up=warm_up)
            assert all(0 < rate <= recipe.lr for rate in rates(recipe, 1))


def test_the_default_is_the_cosine_of_earlier_versions() -> None:
    recipe = Recipe(epochs=8)
    for done in range(8):
        assert recipe.rate(done) == 1e-3 * (1 + math.cos(math.pi * done / 8)) / 2
    assert recipe.content == {"epochs": 8, "lr": 1e-3, "batch": 32, "weight_decay": 1e-4}
    assert make_recipe(None) == make_recipe("ours") == make_recipe({}) == recipe


def test_each_step_is_sgd_as_pytorch_s_on_smoothed_labels() -> None:
    recipe = make_recipe(
        {"optimizer": "sgd", "nesterov": True, "lr": 0.1, "batch": 16, "epochs": 3}
        | {"schedule": "one_cycle", "warm_up": 0.5, "label_smoothing": 0.2, "weight_decay": 1e-2}
    )
    ours, theirs = training(recipe), training(recipe)
    optimizer = torch.optim.SGD(
        theirs.model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2
    )
    for epoch in range(recipe.epochs):
        order = theirs.start_epoch()
        for step, indices_B in enumerate(order):
            optimizer.param_groups[0]["lr"] = recipe.rate(epoch, step, len(order))
            log_p = F.log_softmax(theirs.model(theirs.samples.batch(indices_B)), dim=1)
            of_label_B = log_p.gather(1, theirs.samples.labels(indices_B)[:, None])[:, 0]
            loss = -(0.8 * of_label_B + 0.2 * log_p.mean(dim=1)).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        ours.epoch()
    for mine, its in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_a_resumed_training_has_the_same_numbers(name: str) -> None:
    whole, first, rest = (training(RECIPES[name]) for _ in range(3))
    first.epoch()
    rest.load_state_dict(first.state_dict())
    losses = [whole.epoch()["loss"] for _ in range(3)]
    assert losses[1:] == [rest.epoch()["loss"] for _ in range(2)]
    for mine, its in zip(whole.model.parameters(), rest.model.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_only_adam_without_extras_is_trained_together() -> None:
    model = training(RECIPES["ours"]).model
    assert most_together(model, (1, 8, 8), 32, torch.device("cuda")) > 1
    assert RECIPES["ours"].plain
    for name in {*RECIPES} - {"ours"}:
        assert not RECIPES[name].plain
    alone, together = ([training(RECIPES["fast"], seed) for seed in range(2)] for _ in range(2))
    assert train_epoch(together) == [each.epoch()["loss"] for each in alone]


def test_named_recipes_have_the_values_of_their_sources() -> None:
    salun = RECIPES["salun182"]
    assert (salun.optimizer, salun.momentum, salun.nesterov) == ("sgd", 0.9, False)
    assert (salun.lr, salun.weight_decay, salun.batch, salun.epochs) == (0.1, 5e-4, 256, 182)
    at = [epoch for epoch in range(1, 182) if salun.rate(epoch) < salun.rate(epoch - 1)]
    assert at == [91, 136]
    assert [salun.rate(epoch) for epoch in (90, 91, 136)] == pytest.approx([0.1, 0.01, 0.001])
    laf = RECIPES["laf224"]
    assert (laf.optimizer, laf.lr, laf.weight_decay) == ("adam", 1e-4, 1e-4)
    assert (laf.batch, laf.epochs) == (32, 20)
    assert {*rates(laf)} == {1e-4}
    assert (salun.augmentation, laf.augmentation) == ("crop_flip", "random_resized_crop")
    resnet9 = RECIPES["resnet9_24"]
    assert (resnet9.optimizer, resnet9.momentum, resnet9.nesterov) == ("sgd", 0.9, True)
    assert (resnet9.lr, resnet9.batch, resnet9.epochs) == (0.5, 512, 24)
    assert (resnet9.weight_decay, resnet9.label_smoothing) == (5e-4, 0.1)
    found = rates(resnet9, 98)
    assert found.index(max(found)) == pytest.approx(5 * 98, abs=1)


def test_steps_follow_the_number_of_epochs() -> None:
    short = make_recipe({"base": "salun182", "epochs": 20})
    assert [short.rate(epoch) for epoch in (9, 10, 15)] == pytest.approx([0.1, 0.01, 0.001])


def test_the_same_recipe_has_one_key_however_it_is_written() -> None:
    whole = {"optimizer": "sgd", "lr": 1, "batch": 256, "epochs": 2, "momentum": 0.9}
    assert make_recipe(whole).content == {
        **{"epochs": 2, "lr": 1.0, "batch": 256, "weight_decay": 1e-4},
        "optimizer": "sgd",
    }
    assert isinstance(make_recipe(whole).content["lr"], float)
    # What has no effect any more is left out.
    changed = make_recipe({"base": "salun182", "schedule": "cosine"})
    assert {"steps", "step_factor"}.isdisjoint(changed.content)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("salun", "references.recipe = 'salun': unknown; did you mean 'salun182'? There are: "),
        ("OURS", "references.recipe = 'OURS': unknown; did you mean 'ours'? There are: "),
        (8, "references.recipe = 8: must be the name of a recipe, a mapping, or package.module:"),
        ({"base": "laf"}, "references.recipe.base = 'laf': unknown; did you mean 'laf224'?"),
        ({"base": ["laf"]}, "references.recipe.base = ['laf']: unknown; "),
        ({"learning_rate": 1}, "references.recipe.learning_rate = 1: unknown key; did you mean"),
        ({"optimizer": "sdg"}, "references.recipe.optimizer = 'sdg': must be one of adam, sgd"),
        ({"optimizer": ["sgd"]}, "references.recipe.optimizer = ['sgd']: must be one of adam"),
        ({"lr": "fast"}, "references.recipe.lr = 'fast': must be a finite number above 0"),
        ({"lr": math.nan}, "references.recipe.lr = nan: must be a finite number above 0"),
        ({"lr": True}, "references.recipe.lr = True: must be a finite number above 0"),
        ({"epochs": 1.5}, "references.recipe.epochs = 1.5: must be a whole number of at least 1"),
        ({"momentum": 0.5}, "references.recipe.momentum = 0.5: has no effect unless optimizer is"),
        (
            {"optimizer": "sgd", "momentum": 1},
            "references.recipe.momentum = 1: must be a finite number of at least 0 and below 1",
        ),
        ({"schedule": "steps"}, "references.recipe.steps = []: must say when, as shares of the "),
        (
            {"schedule": "steps", "steps": [91, 136]},
            "references.recipe.steps = [91, 136]: must be increasing shares of the epochs",
        ),
        (
            {"schedule": "steps", "steps": 0.5},
            "references.recipe.steps = 0.5: must be increasing shares of the epochs",
        ),
        (
            {"optimizer": "sgd", "nesterov": True, "momentum": 0},
            "references.recipe.nesterov = True: needs a momentum above 0",
        ),
        ({"precision": "half"}, "references.recipe.precision = 'half': must be one of float32, b"),
    ],
)
def test_what_cannot_be_trained_with_is_one_line(given: Any, message: str) -> None:
    with pytest.raises(InputError) as raised:
        make_recipe(given)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["cnn", "resnet18", "torchvision:resnet18"])
def test_a_model_scales_images_itself(name: str) -> None:
    images = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    width = None if ":" in name else 4
    shapes: dict[str, Any] = {"classes": 5, "seed": 0, "width": width}
    scales = build_model(name, image_shape=(3, 32, 40), size=64, **shapes).eval()
    takes = build_model(name, image_shape=(3, 64, 80), **shapes).eval()
    larger = F.interpolate(images, (64, 80), mode="bilinear")
    assert [*scales.state_dict()] == [*takes.state_dict()]
    with torch.no_grad():
        torch.testing.assert_close(scales(images), takes(larger))
        stage = scales.default_stage
        (found,) = scales.forward_with_features(images, (stage,))[1].values()
        torch.testing.assert_close(found, takes.forward_with_features(larger, (stage,))[1][stage])
    assert most_together(scales, (3, 32, 40), 32, torch.device("cuda")) == 1


def test_a_model_that_shrinks_images_averages_pixels() -> None:
    model = build_model("cnn", image_shape=(1, 32, 32), classes=2, seed=0, width=4, size=8)
    fine = torch.zeros(1, 1, 32, 32)
    fine[:, :, ::2] = 1
    assert (model.scaled(fine) - 0.5).abs().max() < 0.2


class Own(StagedModel):
    """A staged model of a user, which knows nothing of a size."""

    stage_names, default_stage = (), ""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(1, 2)

    def forward_with_features(
        self, images: torch.Tensor, names: Iterable[str]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.head(images.mean(dim=(1, 2, 3))[:, None]), {}


def own(channels: int, size: tuple[int, int], classes: int) -> Own:
    return Own()


def test_a_size_that_is_too_small_is_refused_by_its_own_key() -> None:
    with pytest.raises(InputError, match=r"model\.size = 4: resnet18 needs .* at least 8 pixels"):
        build_model("resnet18", image_shape=(1, 9, 9), classes=2, seed=0, width=4, size=4)


def test_a_size_that_would_be_ignored_is_refused() -> None:
    shape: dict[str, Any] = {"image_shape": (1, 8, 8), "classes": 2, "seed": 0, "width": None}
    with pytest.raises(InputError, match=r"model\.size = 16: .* must scale images itself"):
        build_model(f"{__name__}:own", size=16, **shape)
    assert build_model(f"{__name__}:own", **shape).size is None
