"""What a trial on images of ImageNet's shape takes: memory, and how fast images are read.

100 classes, 20,000 images of 3×224×224, which are 3 GB of pixels: JPEGs in folders, decoded once
into the cache. For each model, a process of its own trains and unlearns for a few steps of an epoch
over all images, and evaluates a few images; a thread looks at its memory meanwhile. The original is
untrained and its outputs are not computed: on a CPU, this would take an hour.

    python benchmarks/imagenet_shaped.py [FOLDER]    # FOLDER keeps the images between runs
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import mixunlearn.evaluation
from benchmarks import publish, say
from mixunlearn.data.arrow import Dataset
from mixunlearn.data.batches import Indices
from mixunlearn.data.labelled import LabelledImages
from mixunlearn.data.memory import DataMemory
from mixunlearn.data.sources import open_dataset
from mixunlearn.data.streaming import Streamed
from mixunlearn.evaluation import Evaluator, evaluation_set
from mixunlearn.methods.mixunlearn import MixUnlearn
from mixunlearn.metrics.gap import ReferenceSet
from mixunlearn.problem import Architecture, Problem, TaughtImages
from mixunlearn.recipes import Recipe
from mixunlearn.references import Member, ReferenceStore
from mixunlearn.splits import Splits, make_splits
from mixunlearn.store import Store
from mixunlearn.trial import Unlearning

TARGET = 1.0  # of 4 GiB
LIMIT = 4 * 2**30
MODELS = ("resnet50", "vit")
CLASSES, IMAGES, SIZE = 100, 20_000, 224
COARSE = 14  # pixels of a picture before it is enlarged: enough to tell classes apart
PAIRS, STEPS = 8, 2  # of MixUnlearn: 24 images a step
BATCH = 16  # of a training
EVALUATED = 8  # images of each kind
READ = 1_024  # images whose reading is timed
IMAGENET = 1_281_167
MIB, GIGA = 2**20, 1e9


def main(folder: Path) -> None:
    """Measure and print the result."""
    if not (folder / "images").exists():
        make_images(folder / "images")
    start = time.perf_counter()
    dataset = opened(folder)
    seconds = time.perf_counter() - start
    assert dataset.path is not None
    size = dataset.path.stat().st_size
    say(f"opened {len(dataset.labels_N)} images, {size / GIGA:.2f} GB, in {seconds:.0f} s")
    found = {}
    for model in MODELS:
        command = [sys.executable, __file__, str(folder), model]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[model] = json.loads(done.stdout)
        say(f"{model}: {found[model]}")
    publish(
        "imagenet_shaped",
        [max(each["private_mib"] * MIB for each in found.values()) / LIMIT],
        at_most=TARGET,
        of="4 GiB of a trial's own memory",
        models=found,
        images=IMAGES,
        file_gb=round(size / GIGA, 3),
        opened_s=round(seconds, 1),
        imagenet_gb=round(IMAGENET * size / IMAGES / GIGA, 1),
    )


def make_images(root: Path) -> None:
    """Write JPEGs into folders of classes: a pattern of the class, and noise."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(64, 192, (CLASSES, COARSE, COARSE, 3))
    unfinished = root.with_name("unfinished")
    for number in range(IMAGES):
        path = unfinished / "train" / f"class_{number % CLASSES:03}" / f"{number}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pattern = patterns[number % CLASSES] + rng.normal(0, 32, (COARSE, COARSE, 3))
        picture = Image.fromarray(pattern.clip(0, 255).astype(np.uint8))
        picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR).save(path, "JPEG")
    unfinished.rename(root)


def opened(folder: Path) -> Dataset:
    """Return the images, decoded into the cache if they are not there yet."""
    options = {"root": str(folder / "images"), "size": SIZE}
    return open_dataset("image_folder", options, folder / "cache")


@dataclass(kw_only=True)
class FewSteps(MixUnlearn):
    """MixUnlearn that ends after the first steps of an epoch."""

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the first batches."""
        return islice(super().pairs(), STEPS)


def measure(folder: Path, name: str) -> dict[str, float]:
    """Return what a trial with a model takes; memory in MiB, times in seconds."""
    torch.set_num_threads(1)
    # Fewer images, because each takes a CPU a tenth of a second; the batches are as large.
    mixunlearn.evaluation.TUNING_LIMIT = EVALUATED
    dataset = opened(folder)
    splits = make_splits(dataset, {"kind": "random", "fraction": 0.1})
    architecture = Architecture.of(dataset, name)
    seconds, memory = dict[str, float](), dict[str, float]()
    with watched(memory):
        for what, work in (("read", read), ("train", train), ("unlearn", unlearn)):
            start = time.perf_counter()
            work(dataset, splits, architecture)
            seconds[f"{what}_s"] = round(time.perf_counter() - start, 1)
    return {**memory, **seconds, "read_images_s": round(READ / seconds["read_s"])}


def read(dataset: Dataset, splits: Splits, architecture: Architecture) -> None:
    """Read images in random order, as training does, and do nothing else."""
    rows_N = np.random.default_rng(0).permutation(splits.retain_N)[:READ]
    images = LabelledImages(dataset=dataset, ids_N=rows_N).streamed(torch.device("cpu"))
    for start in range(0, READ, BATCH):
        images.read(np.arange(start, start + BATCH))


def train(dataset: Dataset, splits: Splits, architecture: Architecture) -> None:
    """Take the first steps of a reference's training."""
    store = ReferenceStore(
        store=Store(Path("unused")),
        dataset=dataset,
        splits=splits,
        architecture=architecture,
        recipe=Recipe(epochs=1, batch=BATCH),
        references=1,
    )
    training = store.training(Member(role="reference", seed=0), torch.device("cpu"))
    assert isinstance(training.samples.images_NCHW, Streamed)
    for indices_B in training.start_epoch()[:STEPS]:
        training.step(indices_B)


def unlearn(dataset: Dataset, splits: Splits, architecture: Architecture) -> None:
    """Take the first steps of unlearning, and evaluate the model."""
    device = torch.device("cpu")
    problem = problem_of(dataset, splits, architecture)
    stage = architecture.build(0).default_stage
    context = problem.context(device, 0)
    assert isinstance(context.retain.images_NCHW, Streamed)
    unlearning = Unlearning(FewSteps(batch=PAIRS, stage=stage), context)
    unlearning.unlearn()
    problem.evaluator.images.evaluate(unlearning.method.model)


def problem_of(dataset: Dataset, splits: Splits, architecture: Architecture) -> Problem:
    """Return the problem of an untrained original; the features of its stages are not stored."""
    model, images = architecture.build(0), evaluation_set(dataset, splits, "val")

    def part(rows_N: Indices) -> TaughtImages:
        return TaughtImages(
            samples=LabelledImages(dataset=dataset, ids_N=rows_N),
            known_N=np.ones(len(rows_N), bool),
            probs_NK=np.full((len(rows_N), CLASSES), 1 / CLASSES, np.float32),
            features={},
        )

    none = ReferenceSet(
        evaluations=[], seconds=[], gap_metrics=images.gap_metrics, resolution={}, margins={}
    )
    return Problem(
        architecture=architecture,
        original={name: tensor.numpy() for name, tensor in model.state_dict().items()},
        forget=part(splits.forget_N),
        retain=part(splits.retain_N),
        with_labels=True,
        evaluator=Evaluator(images=images, references=none),
        stages=(model.default_stage,),
        memory=DataMemory(),
    )


@contextmanager
def watched(found: dict[str, float]) -> Iterator[None]:
    """Add the highest memory of this process: its own, and what it shares with others."""
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.1):
            for name, mib in memory_of_this_process().items():
                found[name] = max(found.get(name, 0), mib)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def memory_of_this_process() -> dict[str, float]:
    """Return memory in MiB: `private` is without pages of files, which the system can drop."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    return {
        "private_mib": kib["Anonymous"] // 1024,
        "resident_mib": kib["Rss"] // 1024,
        "proportional_mib": kib["Pss"] // 1024,
    }


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2])))
    elif len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
