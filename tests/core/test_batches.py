"""Batches of an epoch: each sample once, and no batch of one sample if that can be avoided."""

import numpy as np
import pytest
import torch

from mixunlearn.data.batches import Samples, cut, pairs, shuffled
from mixunlearn.models import build_model
from mixunlearn.recipes import Recipe
from mixunlearn.training import Training

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("count", "batch", "sizes"),
    [
        (8, 4, [4, 4]),
        (10, 4, [4, 4, 2]),
        (9, 4, [4, 5]),
        (1, 4, [1]),
        (3, 1, [1, 1, 1]),
        (0, 4, [0]),
    ],
)
def test_sizes(count: int, batch: int, sizes: list[int]) -> None:
    parts = cut(torch.arange(count), batch)
    assert [len(part) for part in parts] == sizes
    assert torch.cat(parts).tolist() == list(range(count))


def test_both_halves_of_a_pair_are_cut_alike() -> None:
    rng = np.random.default_rng(0)
    made = list(pairs(rng, 3, 9, 4, CPU))
    assert [(len(forget), len(retain)) for forget, retain in made] == [(4, 4), (5, 5)]
    assert sorted(torch.cat([retain for _, retain in made]).tolist()) == list(range(9))
    assert sorted(torch.cat(shuffled(rng, 9, 4, CPU)).tolist()) == list(range(9))


def test_batch_norm_of_one_position_trains_on_one_image_left_over() -> None:
    generator = torch.Generator().manual_seed(0)
    images_NCHW = torch.randint(256, (9, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels_N = torch.randint(2, (9,), generator=generator)
    model = build_model("resnet18", image_shape=(1, 8, 8), classes=2, seed=0, width=8)
    samples = Samples(images_NCHW=images_NCHW, labels_N=labels_N)
    training = Training(model, samples, Recipe(epochs=1, batch=4), seed=0)
    assert np.isfinite(training.epoch()["loss"])
