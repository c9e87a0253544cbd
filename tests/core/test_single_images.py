"""One image to forget, or one to retain: batch norm cannot compute the variance of one image."""

import math
from dataclasses import fields
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
