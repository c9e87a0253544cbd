"""One image to forget or to retain, and images of one class: what batch norm or pairing lack."""

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import nn

from mixunlearn.data.batches import Samples
from mixunlearn.inference import predict
from mixunlearn.methods import METHODS
from mixunlearn.methods.base import Context
from mixunlearn.models.build import as_staged
from mixunlearn.models.staged import StagedModel

CLASSES, SHAPE = 3, (1, 4, 4)


def build(seed: int) -> StagedModel:
    """A model with a batch norm of pixels, and one of single numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 8),
            nn.BatchNorm1d(8),
            nn.Linear(8, CLASSES),
        )
        return as_staged(network, SHAPE)[0]


def context(forgets: int, retains: int) -> Context:
    original = build(0)
    frozen = original.requires_grad_(False).eval()

    def taught(count: int, first: int, kinds: int) -> Samples:
        generator = torch.Generator().manual_seed(first)
        images = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=generator)
        probs_NK, features = predict(frozen, images, ("1",))
        labels_N = torch.arange(count) % kinds + first
        return Samples(images_NCHW=images, labels_N=labels_N, probs_NK=probs_NK, features=features)

    return Context(
        original=frozen,
        fresh=build,
        initial=build,
        forget=taught(forgets, 0, 1),
        retain=taught(retains, 1, 2),
        held_out=taught(4, 1, 2),
        classes=CLASSES,
        forgotten=(0,),
        seed=0,
    )


@pytest.mark.parametrize(
    ("forgets", "retains", "hyperparameters"),
    [(1, 5, {}), (5, 1, {}), (1, 1, {}), (3, 3, {"batch": 1})],
    ids=["one to forget", "one to retain", "one of each", "batches of one"],
)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_works_with_a_single_image(
    name: str, forgets: int, retains: int, hyperparameters: dict[str, int]
) -> None:
    known = {field.name for field in fields(METHODS[name])}
    wanted = {**hyperparameters, "stage": "1"}
    given: dict[str, Any] = {key: value for key, value in wanted.items() if key in known}
    method = METHODS[name](**given)
    method.prepare(context(forgets, retains))
    for _ in range(2):
        assert math.isfinite(method.epoch()["loss"])
    probs_NK, _ = predict(method.model, method.context.retain.images_NCHW)
    assert probs_NK.isfinite().all()


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_works_when_all_images_are_of_one_class(name: str, labelled: bool) -> None:
    method_class = METHODS[name]
    level = "class" if method_class.whole_classes else "data"
    if method_class.incompatible(level, "aware" if labelled else "agnostic"):
        pytest.skip("does not fit")
    known = {field.name for field in fields(method_class)}
    wanted = {"stage": "1", "pairing": "different_class", "batch": 4}
    given: dict[str, Any] = {key: value for key, value in wanted.items() if key in known}
    method = method_class(**given)
    method.prepare(of_one_class(kept=int(method_class.whole_classes), labelled=labelled))
    for _ in range(2):
        assert math.isfinite(method.epoch()["loss"])
    probs_NK, _ = predict(method.model, method.context.retain.images_NCHW)
    assert probs_NK.isfinite().all()


def of_one_class(*, kept: int, labelled: bool) -> Context:
    """Return a context with D_f of class 0 and D_r of one class, where 0 is always predicted."""
    found = context(9, 9)
    with torch.no_grad():
        found.original.get_parameter("network.6.bias")[0] = 9

    def of_class(samples: Samples, label: int) -> Samples:
        probs_NK, _ = predict(found.original, samples.images_NCHW)
        labels_N = torch.full((len(samples),), label) if labelled else None
        return replace(samples, labels_N=labels_N, probs_NK=probs_NK)

    return replace(
        found,
        forget=of_class(found.forget, 0),
        retain=of_class(found.retain, kept),
        forgotten=(0,) if kept else (),
    )
