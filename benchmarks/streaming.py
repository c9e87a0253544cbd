"""The first epoch of training on streamed images, compared with that on resident ones.

Both are the product's own code, from opening the images to the end of the epoch: resident images
are copied into memory first, streamed ones are read from the mapped file by a thread. Before each
measurement the system is asked to drop the file's pages. The two alternate in one process, and give
the same weights to the bit.
"""

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks import publish_cases, say, timed
from mixunlearn.data import arrow
from mixunlearn.data.batches import Samples
from mixunlearn.data.labelled import LabelledImages
from mixunlearn.problem import Architecture
from mixunlearn.recipes import Recipe
from mixunlearn.training import Training

TARGET = 1.05
CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, and what it is trained on.

    Args:
        model: a key of `MODELS`.
        width: channels of its first stage; `None` means its default.
        shape: (channels, height, width) of the images.
        images: number of images.
        batch: images in a step.
    """

    model: str
    width: int | None
    shape: tuple[int, int, int]
    images: int
    batch: int


CASES = {
    # The shortest steps there are: what the thread costs is seen best here.
    "cnn, 1×28×28": Case(model="cnn", width=None, shape=(1, 28, 28), images=1024, batch=32),
    "convnet, 3×32×32": Case(model="convnet", width=16, shape=(3, 32, 32), images=1024, batch=64),
    "resnet18, 3×224×224": Case(
        model="resnet18", width=8, shape=(3, 224, 224), images=64, batch=16
    ),
}


def main() -> None:
    """Measure all cases and print the result; the argument is the number of pairs."""
    torch.set_num_threads(1)
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        seconds = {
            name: measure(name, case, Path(folder) / f"{case.model}.arrow", device, repetitions)
            for name, case in CASES.items()
        }
    words = "streamed_s", "resident_s"
    publish_cases("streaming", seconds, at_most=TARGET, words=words, device=str(device))


def measure(
    name: str, case: Case, path: Path, device: torch.device, repetitions: int
) -> list[tuple[float, float]]:
    """Return the seconds of a first epoch on streamed and on resident images, alternating."""
    write(case, path)
    epoch(case, path, device, resident=True)  # warm up
    pairs = []
    for number in range(repetitions):
        found: Mapping[bool, float] = {
            resident: epoch(case, path, device, resident=resident)
            # In alternating order, because the machine's speed drifts.
            for resident in ((True, False) if number % 2 else (False, True))
        }
        pairs.append((found[False], found[True]))
    own, plain = (median(values) for values in zip(*pairs, strict=True))
    ratio = median(own / plain for own, plain in pairs)
    say(f"{name:20} streamed {own:6.2f} s, resident {plain:6.2f} s: {ratio:.3f}")
    return pairs


def epoch(case: Case, path: Path, device: torch.device, *, resident: bool) -> float:
    """Return the seconds of a first epoch, from opening the images on."""
    architecture = Architecture(
        name=case.model, width=case.width, image_shape=case.shape, classes=CLASSES
    )
    model = architecture.build(0).to(device)
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def first() -> None:
        images = LabelledImages(dataset=arrow.read(path), ids_N=np.arange(case.images))
        labels_N = torch.from_numpy(images.labels_N.copy()).to(device)
        samples = Samples(images_NCHW=images.on(device, resident=resident), labels_N=labels_N)
        Training(model, samples, Recipe(epochs=2, batch=case.batch), seed=0).epoch()

    return timed(first, device)


def write(case: Case, path: Path) -> None:
    """Write random images; their values do not affect the time."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (case.images, *case.shape), np.uint8)
    labels_N = rng.integers(0, CLASSES, case.images)
    names = tuple(map(str, range(CLASSES)))
    dataset = arrow.make_dataset(
        images, labels_N, classes=names, n_train=case.images, source="random"
    )
    arrow.write(dataset, path)
    os.sync()  # pages that are not on the disk yet cannot be dropped


if __name__ == "__main__":
    main()
