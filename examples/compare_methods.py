"""Compare methods with their defaults: mean and standard deviation of the gap over three seeds."""

from pathlib import Path
from statistics import mean, stdev

import torch

from mixunlearn import SOURCES, Architecture, Recipe, ReferenceStore, Store, Trial, make_splits

METHODS = ("original", "neggrad", "mixunlearn")
SEEDS, EPOCHS = range(3), 2

dataset = SOURCES["digits"]()
architecture = Architecture.of(dataset, "cnn", width=8)
references = ReferenceStore(
    store=Store(Path("runs/store")),
    dataset=dataset,
    splits=make_splits(dataset, {"kind": "random", "fraction": 0.1}, limit={"train": 500}),
    architecture=architecture,
    recipe=Recipe(epochs=6, lr=3e-3),
    references=2,
    stages=architecture.build(seed=0).stage_names,
)
references.fill()
problem = references.problem(with_labels=True)


def gap(method: str, seed: int) -> float:
    """Return the mean gap to the references on `val` in percentage points."""
    trial = Trial(problem, method, {}, seed, torch.device("cpu"))
    for _ in range(EPOCHS - 1):
        trial.unlearn()  # an epoch that is not measured
    return trial.epoch()["gap/avg"]


for name in METHODS:
    gaps = [gap(name, seed) for seed in SEEDS]
    print(f"{name:12} {mean(gaps):6.2f} ± {stdev(gaps):.2f} pp (n = {len(gaps)})")
