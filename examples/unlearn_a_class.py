"""Forget a class of scikit-learn's digits, and measure the distance to retrained models."""

from pathlib import Path

import torch

from mixunlearn import (
    SOURCES,
    Architecture,
    Recipe,
    ReferenceStore,
    Store,
    Trial,
    make_splits,
)

dataset = SOURCES["digits"]()
architecture = Architecture.of(dataset, "cnn", width=8)
references = ReferenceStore(
    store=Store(Path("runs/store")),  # models that are already there are not trained again
    dataset=dataset,
    splits=make_splits(dataset, {"kind": "class", "classes": [0]}, limit={"train": 500}),
    architecture=architecture,
    recipe=Recipe(epochs=6, lr=3e-3),
    references=3,
    stages=architecture.build(seed=0).stage_names,
)
print(f"{references.fill()} models trained")

problem = references.problem(with_labels=True)
trial = Trial(problem, "mixunlearn", {"lr": 1e-3}, seed=0, device=torch.device("cpu"))
for epoch in range(1, 4):
    metrics = trial.epoch()
    print(
        f"epoch {epoch}: {metrics['acc/train_forget']:.1f} % right on the forgotten images, "
        f"{metrics['gap/avg']:.2f} percentage points from retraining"
    )
