"""How long an epoch of each method takes, compared with a plain epoch of training on D_r.

One of ten classes is forgotten: D_r has nine times as many images as D_f. What a method computes
before its first epoch counts as part of this epoch, as in a trial; the result shows it as `first`.
Methods and plain training alternate in one process, on one thread, so that all have the same
conditions.
"""

from statistics import median

import numpy as np
import torch

from benchmarks import publish, say, spread, timed
from mixunlearn.data.batches import Samples
from mixunlearn.inference import predict
from mixunlearn.methods import METHODS, Context
from mixunlearn.problem import Architecture
from mixunlearn.recipes import Recipe
from mixunlearn.training import Training
from search_spaces import SPACES

TARGET = 10.0  # of the slowest method: a search with a slower one would be impractical
CLASSES, FORGET, RETAIN = 10, 128, 1152
SHAPE = (1, 28, 28)
BATCH = 32
EPOCHS = 3
ARCHITECTURE = Architecture(name="cnn", width=None, image_shape=SHAPE, classes=CLASSES)


def main() -> None:
    """Measure all methods and print the result."""
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    context = problem(device)
    plain = Training(
        ARCHITECTURE.build(1).to(device),
        context.retain,
        Recipe(epochs=1000, batch=BATCH),
        seed=0,
    )
    timed(plain.epoch, device)
    found = {name: measure(name, context, plain, device) for name in METHODS}
    epochs = {name: [epoch for epoch, _ in ratios] for name, ratios in found.items()}
    for name, ratios in found.items():
        say(f"{name:20} epoch {median(epochs[name]):6.2f}, first {ratios[0][1]:6.2f}")
    worst = max(epochs, key=lambda name: median(epochs[name]))
    publish(
        "method_epochs",
        epochs[worst],
        at_most=TARGET,
        of=worst,
        epochs={name: spread(values) for name, values in epochs.items()},
        first={name: round(ratios[0][1], 3) for name, ratios in found.items()},
        device=str(device),
        images={"forget": FORGET, "retain": RETAIN},
    )


def measure(
    name: str, context: Context, plain: Training, device: torch.device
) -> list[tuple[float, float]]:
    """Return for each epoch its ratio to a plain epoch, without and with the preparation."""
    method = METHODS[name](**default(name))  # type: ignore[arg-type]
    before = timed(lambda: method.prepare(context), device)
    ratios = []
    for number in range(EPOCHS):
        beside = timed(plain.epoch, device)
        epoch = timed(method.epoch, device)
        ratios.append((epoch / beside, (epoch + (before if number == 0 else 0)) / beside))
    # Some methods train something in their first epoch, so the last one replaces it.
    return [(ratios[-1][0], ratios[0][1]), *ratios[1:-1]]


def default(name: str) -> dict[str, object]:
    """Return the configuration of a method's first trial."""
    stages = ARCHITECTURE.build(0)
    space = SPACES[name](stages.stage_names, stages.default_stage)
    return {**space.defaults({"labels": "aware"})}


def problem(device: torch.device) -> Context:
    """Return random images of ten classes; the first class is to be forgotten."""
    model = ARCHITECTURE.build(0).to(device).requires_grad_(False).eval()

    def samples(count: int, low: int, high: int, seed: int) -> Samples:
        rng = np.random.default_rng(seed)
        images = torch.from_numpy(rng.integers(256, size=(count, *SHAPE), dtype=np.uint8))
        labels = torch.from_numpy(rng.integers(low, high, size=count))
        images, labels = images.to(device), labels.to(device)
        probs, features = predict(model, images, model.stage_names)
        return Samples(images_NCHW=images, labels_N=labels, probs_NK=probs, features=features)

    return Context(
        original=model,
        fresh=ARCHITECTURE.build,
        initial=ARCHITECTURE.build,
        forget=samples(FORGET, 0, 1, 1),
        retain=samples(RETAIN, 1, CLASSES, 2),
        held_out=samples(FORGET, 0, CLASSES, 3),
        classes=CLASSES,
        forgotten=(0,),
        seed=0,
    )


if __name__ == "__main__":
    main()
