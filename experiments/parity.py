"""How near methods come to retraining on a slice of images: with their defaults, and tuned.

    PYTHONPATH=. python experiments/parity.py TRAIN.parquet TEST.parquet salun ssd --trials 6

The files are Parquet with the columns `image` and `label`, such as CIFAR-10 or MNIST. One original
and three references are trained, in the folder given by `--store`. Each method then unlearns with
its defaults, under several seeds. With `--trials N`, N configurations are compared on `val`, too:
the defaults, the authors' own values where they differ, and what TPE proposes. The best one is run
under further seeds. The gaps are `gap/avg` on `test`, in percentage points: smaller is better.
Prints a line of JSON about the models, and one for each method. Without methods, all that fit the
task run. Other values than the defaults follow a name, as in `salun:forget_weight=9`.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow.parquet as pq
import torch
import yaml
from PIL import Image

from distributed.study.sampling import make_sampler, suggest
from mixunlearn import Architecture, Problem, Recipe, ReferenceStore, Store, make_splits
from mixunlearn.data.arrow import Dataset, make_dataset
from mixunlearn.errors import DivergedError
from mixunlearn.evaluation import Evaluator
from mixunlearn.methods import METHODS
from mixunlearn.recipes import AUGMENTATIONS
from mixunlearn.trial import Trial
from search_spaces import SPACES, Space

TASKS: Mapping[str, Mapping[str, object]] = {
    "class": {"kind": "class", "classes": [0]},
    "random": {"kind": "random", "fraction": 0.1},
}
STAGE = "block2"
FACTS = {"labels": True}
MODELS = ("dsmixup", "sisa")  # they need originals of their own kind
FRESH = 1000  # seeds of the tuned configuration follow; no trial had them


@dataclass(frozen=True)
class Bench:
    """A problem, and how it is measured.

    Args:
        problem: whose evaluator measures on `val`.
        test: measures on `test`.
        epochs: of unlearning; fewer for methods that end earlier.
        seeds: number of runs of a configuration.
    """

    problem: Problem
    test: Evaluator
    epochs: int
    seeds: int

    def run(self, method: str, values: Mapping[str, Any], seed: int, evaluator: Evaluator) -> float:
        """Unlearn and return the gap; infinite if it diverges."""
        try:
            trial = Trial(self.problem, method, values, seed, torch.device("cpu"))
            for _ in range(min(self.epochs, trial.method.ceiling or self.epochs)):
                trial.unlearn()
            return evaluator.evaluate(trial.method.model, trial.seconds)["gap/avg"]
        except DivergedError:
            return float("inf")

    def gaps(self, method: str, values: Mapping[str, Any], first_seed: int) -> dict[str, float]:
        """Return mean and standard deviation of the gap on `test` over the seeds."""
        seeds = range(first_seed, first_seed + self.seeds)
        found = [self.run(method, values, seed, self.test) for seed in seeds]
        moments = {"mean": np.mean(found), "sd": np.std(found, ddof=1)}
        return {name: round(float(value), 2) for name, value in moments.items()}

    def search(self, method: str, space: Space, trials: int) -> dict[str, Any]:
        """Return the best of some configurations by their gap on `val`."""
        study = optuna.create_study(sampler=make_sampler("tpe", 0))
        study.enqueue_trial(space.defaults(FACTS))
        for each in space.published(FACTS):
            study.enqueue_trial(each)
        best: tuple[float, dict[str, Any]] = (float("inf"), space.defaults(FACTS))
        for _ in range(trials):
            trial = study.ask()
            values = suggest(trial, space, FACTS)
            gap = self.run(method, values, 0, self.problem.evaluator)
            study.tell(trial, min(gap, 100.0))  # TPE takes no infinity
            best = min(best, (gap, values), key=lambda each: each[0])
        return best[1]


def read(path: Path, rows: int, size: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the first images of a file, uint8 (N, C, size, size), and their labels."""
    table = pq.read_table(path).slice(0, rows)
    images = [
        np.asarray(Image.open(BytesIO(cell["bytes"])).resize((size, size)))
        for cell in table["image"].to_pylist()
    ]
    images_NHWC = np.stack(images).reshape(len(images), size, size, -1)
    return images_NHWC.transpose(0, 3, 1, 2), np.asarray(table["label"], np.int64)


def slice_of(train: Path, test: Path, rows: int, size: int) -> Dataset:
    """Return a slice: `rows` training images and half as many test images."""
    parts = read(train, rows, size), read(test, rows // 2, size)
    return make_dataset(
        images_NCHW=np.concatenate([images for images, _ in parts]),
        labels_N=np.concatenate([labels for _, labels in parts]),
        classes=tuple(map(str, range(10))),
        n_train=rows,
        source=f"{train.stem}-{size}px",
    )


def references_of(dataset: Dataset, task: str, store: Path, augmentation: str) -> ReferenceStore:
    """Train the original and the references that are missing, and return them."""
    references = ReferenceStore(
        store=Store(store),
        dataset=dataset,
        splits=make_splits(dataset, TASKS[task]),
        architecture=Architecture.of(dataset, "convnet", width=16),
        recipe=Recipe(epochs=12, lr=3e-3, augmentation=augmentation),
        references=3,
        stages=(STAGE,),
    )
    references.fill()
    return references


def models(references: ReferenceStore) -> dict[str, float]:
    """Return the accuracies of the original and of the references, in percent.

    `memorised` is how much better the original is on the images of D_f than models that have not
    seen them.
    """
    original = references.evaluation(references.all_originals[0], "test").metrics
    retrained = [references.evaluation(each, "test").metrics for each in references.all_references]
    mean = {name: float(np.mean([each[name] for each in retrained])) for name in original}
    found = {
        "retrained": mean["acc/test" if "acc/test" in mean else "acc/test_retain"],
        "retrained_on_train": mean["acc/train_retain"],
        "original_on_forget": original["acc/train_forget"],
        "memorised": original["acc/train_forget"] - mean["acc/train_forget"],
    }
    return {name: round(value, 2) for name, value in found.items()}


def measured(
    bench: Bench, methods: Sequence[str], task: str, trials: int
) -> Iterator[dict[str, Any]]:
    """Yield a line for each method: its gap with the defaults, and tuned."""
    for each in methods:
        name, *given = each.split(":")
        if refused := METHODS[name].incompatible(task, "aware"):
            yield {"method": each, "refused": refused}
            continue
        space, start = SPACES[name]([STAGE], STAGE), time.perf_counter()
        values = space.defaults(FACTS) | {
            key: yaml.safe_load(value) for key, value in (pair.split("=") for pair in given)
        }
        line = {"method": each, "default": bench.gaps(name, values, first_seed=0)}
        if trials:
            best = bench.search(name, space, trials)
            line |= {"tuned": bench.gaps(name, best, first_seed=FRESH), "values": best}
        yield line | {"seconds": round(time.perf_counter() - start)}


def main() -> None:
    """Measure and print."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("methods", nargs="*")
    parser.add_argument("--task", choices=TASKS, default="random")
    parser.add_argument("--store", type=Path, default=Path("runs/parity"))
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--augmentation", choices=AUGMENTATIONS, default="none")
    chosen = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dataset = slice_of(chosen.train, chosen.test, chosen.rows, chosen.size)
    references = references_of(dataset, chosen.task, chosen.store, chosen.augmentation)
    problem = references.problem(with_labels=True)
    bench = Bench(problem, references.evaluator("test"), chosen.epochs, chosen.seeds)
    facts = {"task": chosen.task, "augmentation": chosen.augmentation}
    methods = chosen.methods or [name for name in SPACES if name not in MODELS]
    for line in chain([models(references)], measured(bench, methods, chosen.task, chosen.trials)):
        print(json.dumps(facts | line), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
