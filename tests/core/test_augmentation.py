"""Augmentations against torchvision's functions; what is drawn; who sees augmented images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as tv

from mixunlearn.augmentation import (
    AUGMENTATIONS,
    augmented,
    boxes,
    crop,
    cropped,
    padding,
    resized,
)
from mixunlearn.data.batches import Samples
from mixunlearn.errors import InputError
from mixunlearn.methods import METHODS, Context
from mixunlearn.methods.base import OneStep
from mixunlearn.methods.mixunlearn import MixUnlearn
from mixunlearn.models import build_model
from mixunlearn.population import most_together, train_epoch
from mixunlearn.problem import Problem
from mixunlearn.recipes import AUGMENTATIONS as NAMES
from mixunlearn.recipes import Recipe, make_recipe
from mixunlearn.references import ReferenceStore
from mixunlearn.testing import check_resume, first
from mixunlearn.training import Training
from tests.problems import recipe_of
from tests.quick_methods import quick

CHANGING = [name for name in AUGMENTATIONS if name != "none"]


def images(count: int, channels: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    found = torch.rand(count, channels, height, width, generator=generator)
    return found.contiguous(memory_format=torch.channels_last)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_names_are_those_of_recipes() -> None:
    assert tuple(AUGMENTATIONS) == NAMES


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 32), (1, 8, 8), (2, 9, 14)])
def test_crops_are_those_of_torchvision(channels: int, height: int, width: int) -> None:
    given = images(7, channels, height, width)
    pad = padding(given.shape[2:])
    assert pad == max(min(height, width) // 8, 1)
    draws, count = rng(), len(given)
    tops, lefts = draws.integers(2 * pad + 1, size=(2, count))
    flips = draws.integers(2, size=count)
    found = cropped(given, torch.from_numpy(np.stack((tops, lefts, flips))))
    for image, one, top, left, flip in zip(found, given, tops, lefts, flips, strict=True):
        expected = tv.crop(tv.pad(one, [pad]), int(top), int(left), height, width)
        assert torch.equal(image, tv.hflip(expected) if flip else expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 32), (1, 28, 28), (2, 9, 14)])
def test_resized_crops_are_those_of_torchvision(channels: int, height: int, width: int) -> None:
    given = images(40, channels, height, width)
    draws = rng(1)
    parts = boxes(draws, len(given), height, width)
    flips = draws.integers(2, size=len(given))
    found = resized(given, torch.from_numpy(np.stack((*parts, flips))))
    for image, one, part, flip in zip(found, given, parts.T, flips, strict=True):
        top, left, high, wide = map(int, part)
        expected = tv.resized_crop(one, top, left, high, wide, [height, width], antialias=True)
        expected = tv.hflip(expected) if flip else expected
        torch.testing.assert_close(image, expected, rtol=0, atol=2e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_parts_are_distributed_as_those_of_torchvision() -> None:
    count, size = 4000, 32
    ours = boxes(rng(), count, size, size)
    torch.manual_seed(0)
    image = torch.zeros(1, size, size)
    law = ([0.08, 1.0], [3 / 4, 4 / 3])
    theirs = np.array([RandomResizedCrop.get_params(image, *law) for _ in range(count)]).T
    for mine, its in zip(ours, theirs, strict=True):
        # Five standard errors of a mean of so many, whose sd is below 10 pixels.
        assert abs(mine.mean() - its.mean()) < 5 * 10 * (2 / count) ** 0.5
        assert (mine.min(), mine.max()) == pytest.approx((its.min(), its.max()), abs=3)


def test_each_image_gets_its_own_changes() -> None:
    alike = images(1, 3, 32, 32).expand(64, -1, -1, -1)
    for name in CHANGING:
        found = augmented(alike, name, rng())
        assert len({each.numpy().tobytes() for each in found}) > 32, name
        assert found.shape == alike.shape
        assert torch.equal(found, augmented(alike, name, rng()))
        assert not torch.equal(found, augmented(alike, name, rng(1)))


def test_a_crop_without_flips_mirrors_nothing() -> None:
    given = torch.zeros(50, 1, 8, 8)
    given[:, :, :, 1:4] = torch.tensor([1.0, 2.0, 3.0])
    for row in crop(given, rng())[:, 0, 4]:
        found = row[row > 0].tolist()
        assert found == sorted(found)


def samples() -> Samples:
    generator = torch.Generator().manual_seed(0)
    return Samples(
        images_NCHW=torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8, generator=generator),
        labels_N=torch.randint(10, (40,), generator=generator),
    )


def training(recipe: Recipe, seed: int = 0) -> Training:
    model = build_model("convnet", image_shape=(1, 8, 8), classes=10, seed=seed, width=4)
    return Training(model, samples(), recipe, seed)


@pytest.mark.parametrize("name", CHANGING)
def test_an_augmented_training_is_resumed_to_the_same_numbers(name: str) -> None:
    recipe = Recipe(epochs=4, augmentation=name, batch=16)
    whole, first, rest = (training(recipe) for _ in range(3))
    for _ in range(2):
        first.epoch()
    rest.load_state_dict(first.state_dict())
    losses = [whole.epoch()["loss"] for _ in range(4)]
    assert losses[2:] == [rest.epoch()["loss"] for _ in range(2)]
    for mine, its in zip(whole.model.parameters(), rest.model.parameters(), strict=True):
        assert torch.equal(mine, its)
    plain = training(replace(recipe, augmentation="none"))
    assert plain.epoch()["loss"] != losses[0]


def test_augmented_trainings_are_trained_one_by_one() -> None:
    recipe = make_recipe({"augmentation": "crop"})
    assert not recipe.plain
    model = build_model("cnn", image_shape=(1, 8, 8), classes=10, seed=0, width=8)
    assert most_together(model, (1, 8, 8), 32, torch.device("cuda")) > 1
    alone, together = ([training(recipe, seed) for seed in range(2)] for _ in range(2))
    assert train_epoch(together) == [each.epoch()["loss"] for each in alone]


WITH_STEPS = [name for name, method in METHODS.items() if not issubclass(method, OneStep)]
# GLI learns from noise alone. MU-Mis makes outputs insensitive to the very pixels of D_f.
PLAIN = {"gli", "jit", "l2ul", "mu_mis"}


@pytest.fixture(scope="module")
def small(problem: Problem) -> Context:
    """Two steps per epoch, of an original that was trained with augmentation."""
    whole = replace(problem, augmentation="crop").context(torch.device("cpu"), 0)
    return replace(whole, forget=whole.forget.at(slice(40)), retain=whole.retain.at(slice(64)))


@pytest.mark.parametrize("name", WITH_STEPS)
def test_methods_learn_from_images_as_the_original_did(name: str, small: Context) -> None:
    losses = []
    for context in (small, replace(small, augmentation="none")):
        method = quick(name)()
        method.prepare(context)
        method.epoch()
        losses.append(method.epoch()["loss"])
    assert (losses[0] == losses[1]) == (name in PLAIN)


@pytest.mark.parametrize("name", ["mixunlearn", "scrub", "sisa"])
def test_an_augmented_method_is_resumed_to_the_same_numbers(name: str, problem: Problem) -> None:
    retain = first(problem.retain, 160)
    check_resume(quick(name), replace(problem, retain=retain, augmentation="crop_flip"))


def test_the_generator_sees_the_images_that_are_mixed(small: Context) -> None:
    method = MixUnlearn()
    method.prepare(small)
    forget_B = retain_B = torch.arange(8)
    forget, retain = small.forget.batch(forget_B), small.retain.batch(retain_B)
    known = method.features(forget, retain, forget_B, retain_B)
    method.context = replace(small, augmentation="none")
    cached = method.features(forget, retain, forget_B, retain_B)
    for found, expected in zip(known, cached, strict=True):
        torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-3)
    method.context = small
    mirrored = method.features(forget.flip(3), retain, forget_B, retain_B)
    assert not torch.allclose(mirrored[0], known[0], atol=0.01)


def test_no_features_are_cached_for_augmented_images(problem: Problem) -> None:
    taught = replace(problem.forget, features={}), replace(problem.retain, features={})
    bare = replace(problem, augmentation="crop", forget=taught[0], retain=taught[1])
    for changed, stage in (
        (bare, "pool3"),
        (replace(bare, augmentation="none", stages=()), "pool2"),
    ):
        with pytest.raises(InputError, match=f"search.space.stage = '{stage}': the generator need"):
            MixUnlearn(stage=stage).prepare(changed.context(torch.device("cpu"), 0))
    method = MixUnlearn(stage="pool2")
    method.prepare(bare.context(torch.device("cpu"), 0))
    assert method.generator.query.in_channels == problem.forget.features["pool2"].shape[1] + 1


def test_a_problem_knows_how_its_original_was_trained(references: ReferenceStore) -> None:
    assert references.problem(with_labels=True).augmentation == "none"
    recipe = replace(recipe_of(references), augmentation="crop")
    assert replace(references, recipe=recipe).payload(references.original)["recipe"] == {
        **references.recipe.content,
        "augmentation": "crop",
    }
