"""Training N small models together in one process, compared with training them one by one.

Both are epochs of the product's own code on as many random images. The two alternate in one
process, in one thread and in as many as there are processors, so that both have the same
conditions.
"""

import os
from dataclasses import dataclass
from statistics import median

import torch

from benchmarks import publish_cases, say, timed
from mixunlearn.data.batches import Samples
from mixunlearn.population import train_epoch
from mixunlearn.problem import Architecture
from mixunlearn.recipes import Recipe
from mixunlearn.training import Training

TARGET = 1.0  # training together must not be slower
CLASSES, BATCH = 10, 32
MODELS = (8, 16)
MANY = 64  # at once, on a GPU


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model and how long to measure it.

    Args:
        name: of the data set whose images have this size.
        width: channels of the small CNN's first convolution.
        side: height and width of the images.
        steps: steps in one epoch.
        repetitions: number of epochs of each kind.
    """

    name: str
    width: int
    side: int
    steps: int
    repetitions: int


CASES = (
    Case(name="digits", width=8, side=8, steps=10, repetitions=7),
    Case(name="mnist5k", width=16, side=28, steps=4, repetitions=3),
)


def main() -> None:
    """Measure all cases and print the result."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = sorted({1, os.cpu_count() or 1} if device.type == "cpu" else {1})
    found = {
        f"{case.name}, {count} models, threads: {thread}": measure(case, count, thread, device)
        for case in CASES
        for count in (MODELS if device.type == "cpu" else (*MODELS, MANY))
        for thread in threads
    }
    publish_cases(
        "population",
        found,
        at_most=TARGET,
        words=("together_step_s", "one_by_one_step_s"),
        device=torch.cuda.get_device_name() if device.type == "cuda" else str(device),
        batch=BATCH,
    )


def measure(
    case: Case, count: int, threads: int, device: torch.device
) -> list[tuple[float, float]]:
    """Return the seconds of a step of one model, trained together and alone, alternating."""
    torch.set_num_threads(threads)
    together, alone = ([training(case, seed, device) for seed in range(count)] for _ in range(2))

    def one_by_one() -> None:
        for each in alone:
            each.epoch()

    def both() -> tuple[float, float]:
        parts = timed(lambda: train_epoch(together), device), timed(one_by_one, device)
        return parts[0] / (case.steps * count), parts[1] / (case.steps * count)

    both()
    pairs = [both() for _ in range(case.repetitions)]
    own, plain = (median(values) * 1e3 for values in zip(*pairs, strict=True))
    say(f"{case.name:8} {count:3} models, threads: {threads}: {own:.2f} ms against {plain:.2f} ms")
    return pairs


def training(case: Case, seed: int, device: torch.device) -> Training:
    """Return the training of a model on random images; their values do not affect the time."""
    shape = (1, case.side, case.side)
    architecture = Architecture(name="cnn", width=case.width, image_shape=shape, classes=CLASSES)
    rng = torch.Generator().manual_seed(seed)
    count = BATCH * case.steps
    samples = Samples(
        images_NCHW=torch.randint(256, (count, *shape), dtype=torch.uint8, generator=rng).to(
            device
        ),
        labels_N=torch.randint(CLASSES, (count,), generator=rng).to(device),
    )
    recipe = Recipe(epochs=1 + case.repetitions, batch=BATCH)
    return Training(architecture.build(seed).to(device), samples, recipe, seed)


if __name__ == "__main__":
    main()
