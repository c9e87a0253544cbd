"""How near methods come to retraining with their default hyperparameters, on a slice of CIFAR-10.

    PYTHONPATH=. python experiments/default_gaps.py TRAIN.parquet TEST.parquet salun ssd

One original and three references are trained, in the folder given by `--store`. Each method then
unlearns with its defaults, under several seeds. The gap is `gap/avg` on `val`, in percentage
points: smaller is better. Prints one line of JSON for each method. Other values than the defaults
follow a name, as in `salun:forget_weight=9`.
"""

import argparse
import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import yaml
from PIL import Image

from mixunlearn import Architecture, Problem, Recipe, ReferenceStore, Store, make_splits
from mixunlearn.data.arrow import Dataset, make_dataset
from mixunlearn.trial import Trial

TASKS: Mapping[str, Mapping[str, object]] = {
    "class": {"kind": "class", "classes": [0]},
    "random": {"kind": "random", "fraction": 0.1},
}


def read(path: Path, rows: int, size: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the first images of a file, uint8 (N, 3, size, size), and their labels."""
    table = pq.read_table(path).slice(0, rows)
    images = [
        np.asarray(Image.open(BytesIO(cell["bytes"])).convert("RGB").resize((size, size)))
        for cell in table["image"].to_pylist()
    ]
    return np.stack(images).transpose(0, 3, 1, 2), np.asarray(table["label"], np.int64)


def slice_of(train: Path, test: Path, rows: int, size: int) -> Dataset:
    """Return a slice of CIFAR-10: `rows` training images and half as many test images."""
    parts = read(train, rows, size), read(test, rows // 2, size)
    return make_dataset(
        images_NCHW=np.concatenate([images for images, _ in parts]),
        labels_N=np.concatenate([labels for _, labels in parts]),
        classes=tuple(map(str, range(10))),
        n_train=rows,
        source=f"cifar10-{size}px",
    )


def problem_of(dataset: Dataset, task: str, store: Path, epochs: int) -> Problem:
    """Train what is missing, and return the problem."""
    references = ReferenceStore(
        store=Store(store),
        dataset=dataset,
        splits=make_splits(dataset, TASKS[task]),
        architecture=Architecture.of(dataset, "convnet", width=16),
        recipe=Recipe(epochs=epochs, lr=3e-3),
        references=3,
        stages=("block2",),
    )
    references.fill()
    return references.problem(with_labels=True)


def gap(problem: Problem, method: str, epochs: int, seed: int) -> float:
    """Return the average gap after some epochs with a method's defaults, or given values."""
    name, *given = method.split(":")
    values: dict[str, Any] = {"stage": "block2"} if name == "mixunlearn" else {}
    values |= {key: yaml.safe_load(value) for key, value in (each.split("=") for each in given)}
    trial = Trial(problem, name, values, seed, torch.device("cpu"))
    for _ in range(min(epochs, trial.method.ceiling or epochs) - 1):
        trial.unlearn()
    return float(trial.epoch()["gap/avg"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--task", choices=TASKS, default="random")
    parser.add_argument("--store", type=Path, default=Path("runs/default_gaps"))
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    dataset = slice_of(chosen.train, chosen.test, chosen.rows, chosen.size)
    problem = problem_of(dataset, chosen.task, chosen.store, epochs=12)
    for method in chosen.methods:
        gaps = [gap(problem, method, chosen.epochs, seed) for seed in range(chosen.seeds)]
        found = {"mean": float(np.mean(gaps)), "sd": float(np.std(gaps, ddof=1))}
        rounded = {key: round(value, 2) for key, value in found.items()}
        print(json.dumps({"task": chosen.task, "method": method, **rounded}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
