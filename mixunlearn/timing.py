"""How long work takes, from a few real steps of it."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from mixunlearn.data.batches import Samples
from mixunlearn.data.labelled import LabelledImages
from mixunlearn.problem import Problem
from mixunlearn.recipes import Recipe
from mixunlearn.training import Training

BATCHES = 8  # steps that are timed; as many run before, because the first ones are slower
ROUNDS = 25  # of them at most


def retraining_seconds(
    problem: Problem, recipe: Recipe, device: torch.device, *, least_s: float = 0.0
) -> float:
    """Return how long training one model on the retain set takes, from a few steps of it.

    Args:
        problem: the images and the kind of model.
        recipe: of the training.
        device: where to train.
        least_s: steps are timed until they have taken so many seconds: the more, the more exact.

    Raises:
        DivergedError: the loss is not finite.
    """
    images = problem.retain.samples
    chosen_N = spread(len(images.ids_N), BATCHES * recipe.batch).numpy()
    part = LabelledImages(dataset=images.dataset, ids_N=images.ids_N[chosen_N])
    samples = Samples(
        images_NCHW=torch.from_numpy(part.images_NCHW).to(device),
        labels_N=torch.from_numpy(part.labels_N).to(device),
    )
    model = problem.architecture.initial(0, problem.pretrained).to(device)
    # More epochs than are run, so that the rate is above 0 in those that are timed.
    training = Training(model, samples, replace(recipe, epochs=max(recipe.epochs, ROUNDS + 2)), 0)
    training.epoch()
    rounds, taken = 0, 0.0
    while not rounds or (taken < least_s and rounds < ROUNDS):
        taken += seconds_of(training.epoch)
        rounds += 1
    return taken / rounds * recipe.epochs * len(images.ids_N) / len(samples)


def spread(total: int, count: int) -> torch.Tensor:
    """Return at most `count` indices below `total`, evenly spread, int64."""
    count = min(total, count)
    return torch.arange(count) * total // count


def seconds_of(work: Callable[[], object]) -> float:
    """Return how many seconds some work takes.

    Args:
        work: it ends with numbers on the CPU, so that a GPU has done its part by then.
    """
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
