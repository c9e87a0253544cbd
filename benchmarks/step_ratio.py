"""The cost of a step of MixUnlearn, compared with a plain supervised step on as many images.

Both are measured as an epoch of the product's own code, divided by its number of steps. An epoch
gathers batches, computes losses and gradients and takes Adam steps; in every K-th step, MixUnlearn
also updates the generator. The two alternate in one process, on one thread, so that both have the
same conditions.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from benchmarks import publish_cases, say
from mixunlearn.data.batches import Samples
from mixunlearn.methods import Context
from mixunlearn.methods.mixunlearn import MixUnlearn
from mixunlearn.problem import Architecture
from mixunlearn.recipes import Recipe
from mixunlearn.training import Training

TARGET = 1.3
PAIRS = 32  # B: a step of MixUnlearn uses B retain, B forget and B mixed images
IMAGES = 3 * PAIRS
INTERVAL = 4  # K: steps of the unlearner for each step of the generator
CLASSES = 10
WARM_UP = 2


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model and how long to measure it.

    Args:
        model: a key of `MODELS`.
        width: channels of its first stage; `None` means its default.
        shape: (channels, height, width) of the images.
        steps: steps in one epoch, a multiple of K.
        repetitions: number of epochs of MixUnlearn, and of supervised training.
    """

    model: str
    width: int | None
    shape: tuple[int, int, int]
    steps: int
    repetitions: int


CASES = (
    Case(model="cnn", width=None, shape=(1, 28, 28), steps=16, repetitions=25),
    Case(model="convnet", width=None, shape=(3, 32, 32), steps=8, repetitions=15),
    Case(model="resnet18", width=16, shape=(3, 32, 32), steps=4, repetitions=11),
)


def main() -> None:
    """Measure all cases and print the result."""
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, one thread"
    say(f"step_ratio on {name}: {PAIRS} pairs against {IMAGES} images a step")
    seconds = {case.model: measure(case, device) for case in CASES}
    publish_cases(
        "step_ratio",
        seconds,
        at_most=TARGET,
        words=("mixunlearn_step_s", "supervised_step_s"),
        device=name,
        synchronised=device.type == "cuda",
        pairs=PAIRS,
        images=IMAGES,
        generator_interval=INTERVAL,
    )


def measure(case: Case, device: torch.device) -> list[tuple[float, float]]:
    """Return the seconds of a step of MixUnlearn and of a supervised one, alternating."""
    method, training = unlearning(case, device), supervised(case, device)
    for _ in range(WARM_UP):
        method.epoch()
        training.epoch()
    pairs = [
        (timed(method.epoch, device) / case.steps, timed(training.epoch, device) / case.steps)
        for _ in range(case.repetitions)
    ]
    own, plain = (median(values) for values in zip(*pairs, strict=True))
    ratio = median(own / plain for own, plain in pairs)
    say(f"{case.model:9} {own * 1e3:8.1f} ms against {plain * 1e3:8.1f} ms a step: {ratio:.3f}")
    return pairs


def unlearning(case: Case, device: torch.device) -> MixUnlearn:
    """Return a prepared MixUnlearn on random images."""
    architecture = architecture_of(case)
    model = architecture.build(0).to(device).requires_grad_(False).eval()
    stage = model.default_stage
    method = MixUnlearn(batch=PAIRS, gen_interval=INTERVAL, stage=stage)
    blank = torch.zeros((1, *case.shape), device=device)
    feature_shape = model.forward_with_features(blank, [stage])[1][stage].shape[1:]
    forget, retain = (
        random_samples(case, device, seed, PAIRS * case.steps, {stage: feature_shape})
        for seed in (1, 2)
    )
    context = Context(
        original=model,
        fresh=architecture.build,
        initial=architecture.build,
        forget=forget,
        retain=retain,
        held_out=retain,
        classes=CLASSES,
        forgotten=(),
        seed=0,
    )
    method.prepare(context)
    return method


def supervised(case: Case, device: torch.device) -> Training:
    """Return the training of the same model on as many random images a step."""
    samples = random_samples(case, device, 3, IMAGES * case.steps, {})
    recipe = Recipe(epochs=WARM_UP + case.repetitions, batch=IMAGES, weight_decay=0.0)
    return Training(architecture_of(case).build(0).to(device), samples, recipe, seed=0)


def architecture_of(case: Case) -> Architecture:
    """Return the model of a case."""
    return Architecture(name=case.model, width=case.width, image_shape=case.shape, classes=CLASSES)


def random_samples(
    case: Case, device: torch.device, seed: int, count: int, features: dict[str, torch.Size]
) -> Samples:
    """Return random images, labels and features; their values do not affect the time."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, *case.shape), dtype=torch.uint8, generator=rng)
    return Samples(
        images_NCHW=images.to(device),
        labels_N=torch.randint(CLASSES, (count,), generator=rng).to(device),
        features={
            stage: torch.rand((count, *shape), generator=rng).half().to(device)
            for stage, shape in features.items()
        },
    )


def timed(epoch: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of an epoch, from an idle device to an idle device."""
    settle(device)
    start = time.perf_counter()
    epoch()
    settle(device)
    return time.perf_counter() - start


def settle(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
