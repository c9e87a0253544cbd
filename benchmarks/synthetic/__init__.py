"""Problems of random images: their values do not affect the time of a step."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from mixunlearn.data.batches import Samples
from mixunlearn.inference import predict
from mixunlearn.methods import METHODS, Context, Method
from mixunlearn.problem import Architecture

CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured.

    Args:
        model, width, shape: the classifier, and the images.
        batches: pairs in a step.
        steps: steps in an epoch of those that are timed.
        repetitions: timed epochs.
        seconds: that several processes compute at the same time.
        processes: how many at the same time.
        methods: whose captured steps are checked; all if there are none.
    """

    model: str = "resnet18"
    width: int | None = None
    shape: tuple[int, int, int] = (3, 32, 32)
    batches: tuple[int, ...] = (32, 128)
    steps: int = 40
    repetitions: int = 3
    seconds: float = 4.0
    processes: tuple[int, ...] = (1, 2, 4, 8)
    methods: tuple[str, ...] = ()

    @property
    def architecture(self) -> Architecture:
        """Return the classifier."""
        shape = self.shape
        return Architecture(name=self.model, width=self.width, image_shape=shape, classes=CLASSES)


QUICK = Size(
    model="cnn",
    width=4,
    shape=(1, 8, 8),
    batches=(8,),
    steps=6,
    repetitions=1,
    seconds=0.1,
    processes=(),
    methods=("mixunlearn", "esc", "unsir"),
)


def problem(
    size: Size, count: int, device: torch.device, forgotten: tuple[int, ...] = ()
) -> Context:
    """Return a problem on random images: an epoch passes over `count` of them."""
    architecture = size.architecture
    original = architecture.build(0).to(device).requires_grad_(False).eval()
    stage = original.default_stage

    def seen(seed: int, low: int, high: int) -> Samples:
        samples = random_samples(size.shape, count, seed, device, low, high)
        probs_NK, features = predict(original, samples.images_NCHW, (stage,))
        return replace(samples, probs_NK=probs_NK, features=features)

    gone = len(forgotten)
    return Context(
        original=original,
        fresh=architecture.build,
        initial=architecture.build,
        forget=seen(1, 0, gone or CLASSES),
        retain=seen(2, gone, CLASSES),
        held_out=random_samples(size.shape, count, 3, device),
        classes=CLASSES,
        forgotten=forgotten,
        seed=0,
    )


def random_samples(
    shape: Sequence[int],
    count: int,
    seed: int,
    device: torch.device,
    low: int = 0,
    high: int = CLASSES,
) -> Samples:
    """Return random images with labels from `low` to `high` − 1."""
    rng = torch.Generator().manual_seed(seed)
    images: Tensor = torch.randint(256, (count, *shape), dtype=torch.uint8, generator=rng)
    labels = torch.randint(low, high, (count,), generator=rng)
    return Samples(images_NCHW=images.to(device), labels_N=labels.to(device))


def prepared(name: str, context: Context, batch: int) -> Method:
    """Return a method with its defaults, except for the batch and the stage."""
    known = {field.name for field in fields(METHODS[name])}
    given: dict[str, Any] = {"batch": batch, "stage": context.original.default_stage}
    method = METHODS[name](**{key: value for key, value in given.items() if key in known})
    method.prepare(context)
    return method
