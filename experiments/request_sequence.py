"""Ten deletion requests in sequence: the model at the end beside models retrained without them all.

    PYTHONPATH=. python experiments/request_sequence.py --folder sequence

The user's model and data are those of `experiments/own_net.py`. Each request asks for 20 images
more; `mixunlearn unlearn --requests` handles all ten, each from the model that the one before has
released. Nothing is verified in between. At the end, models are retrained by the user's own
training without all 200 images.

Every model is measured here on the same images: the 200 asked for, the others, and unseen ones.
The table (`result.md`, `result.json`) has also the share of right answers on the images asked for
until then. The same command again goes on where it was stopped.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments import own_net
from mixunlearn.atomic import replacing
from mixunlearn.metrics.accuracy import accuracy
from mixunlearn.metrics.membership import attack_success
from report.notation import markdown_table

HERE = Path(__file__).resolve().parent
REQUESTS, EACH = 10, 20
# With this weight, the few images of a request count as much as all others together.
HOW = {
    "method": "salun",
    "epochs": 3,
    "hyperparameters": {"lr": 3e-4, "fraction": 0.5, "forget_weight": 62.0},
}
METRICS = ("asked so far", "acc/train_forget", "acc/train_retain", "acc/test", "mia/asr")

Set = tuple[Tensor, Tensor]
Values = dict[str, float]


def prepare(folder: Path) -> list[list[int]]:
    """Make data, model, configuration and lists; return the rows of each request."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "own_net.py").exists():
        shutil.copy(HERE / "own_net.py", folder)
    if not (folder / "model.pt").exists():
        subprocess.run([sys.executable, "own_net.py"], cwd=folder, check=True)
    if not (folder / "how.yaml").exists():
        write(folder / "how.yaml", yaml.safe_dump(HOW))
    count = len(own_net.read(str(folder / "train.parquet"))[1])
    drawn = np.random.default_rng(3).permutation(count)[: REQUESTS * EACH]
    rows = [sorted(part.tolist()) for part in np.split(drawn, REQUESTS)]
    for number, asked in enumerate(rows, 1):
        write(folder / "lists" / f"r{number:02d}.csv", "\n".join(["id", *map(str, asked)]))
    return rows


def handle(folder: Path) -> float | None:
    """Handle all requests; return how many seconds it took, `None` if they were handled before."""
    if (folder / "released" / f"r{REQUESTS:02d}" / "record.json").exists():
        return None
    words = "unlearn --model own_net:build --weights model.pt --data train.parquet --home home"
    words += " --requests lists --config how.yaml --out released --set data.test=test.parquet"
    beside = os.pathsep.join([str(folder), str(HERE.parent)])
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "mixunlearn", *words.split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": beside},
        check=True,
    )
    return time.monotonic() - began


def retrained(folder: Path, retain: Set, count: int) -> list[nn.Module]:
    """Return models that were trained without all images asked for."""
    models = list[nn.Module]()
    for seed in range(1, count + 1):
        path = folder / f"retrained-{seed}.pt"
        if not path.exists():
            began = time.monotonic()
            state = own_net.trained(*retain, seed).state_dict()
            torch.save({"state_dict": state, "seconds": time.monotonic() - began}, path)
        models.append(own_net.load(str(path)))
    return models


def released(path: Path) -> nn.Module:
    """Return the model that a request has released."""
    model = own_net.build(3, (own_net.SIZE, own_net.SIZE), len(own_net.NAMES))
    state = load_file(path)
    model.load_state_dict({name.removeprefix("module."): each for name, each in state.items()})
    return model.eval()


def measure(
    forget: Set, retain: Set, test: Set, so_far: Callable[[int], Tensor]
) -> Callable[[nn.Module, int], Values]:
    """Return what measures a model after a number of requests."""
    sets = {"forget": forget, "retain": retain, "test": test}
    labels = {name: each[1].numpy() for name, each in sets.items()}

    def of(model: nn.Module, requests: int) -> Values:
        with torch.no_grad():
            probs = {
                name: model(images / 255).softmax(1).numpy() for name, (images, _) in sets.items()
            }
        asked = so_far(requests).numpy()
        values = [
            accuracy(probs["forget"][asked], labels["forget"][asked]) if asked.any() else np.nan,
            *(accuracy(probs[name], labels[name]) for name in sets),
            attack_success(probs["retain"], probs["forget"], probs["test"], 0),
        ]
        return dict(zip(METRICS, map(float, values), strict=True))

    return of


def tell(folder: Path, references: int) -> dict[str, Any]:
    """Do what is missing; return the measurements of all models."""
    rows = prepare(folder)
    seconds = handle(folder)
    images, labels = own_net.read(str(folder / "train.parquet"))
    asked = [row for part in rows for row in part]
    kept = np.setdiff1d(np.arange(len(images)), asked)
    forget, retain = ((images[each], labels[each]) for each in (asked, kept))
    test = own_net.read(str(folder / "test.parquet"))
    of = measure(forget, retain, test, lambda done: torch.arange(len(asked)) < done * EACH)
    steps = {"untouched": of(own_net.load(str(folder / "model.pt")), 0)}
    records = []
    for number in range(1, REQUESTS + 1):
        place = folder / "released" / f"r{number:02d}"
        steps[f"after request {number}"] = of(released(place / "model.safetensors"), number)
        records.append(json.loads((place / "record.json").read_text()))
    others = retrained(folder, retain, references)
    return {
        "steps": steps,
        "retrained": [of(each, REQUESTS) for each in others],
        "unlearn_s": [each["seconds"] for each in records],
        "retrain_s": [
            torch.load(folder / f"retrained-{seed}.pt", weights_only=True)["seconds"]
            for seed in range(1, references + 1)
        ],
        "command_s": seconds,
        "state": records[-1]["verdict"]["state"],
    }


def page(told: Mapping[str, Any]) -> str:
    """Return the table as Markdown."""
    cells = [(name, *shown(values)) for name, values in told["steps"].items()]
    table = {name: [each[name] for each in told["retrained"]] for name in METRICS}
    means = [f"{np.mean(each):.1f} ± {np.std(each, ddof=1):.1f}" for each in table.values()]
    cells.append((f"retrained without all (n = {len(told['retrained'])})", *means))
    unlearn, retrain = (float(np.mean(told[name])) for name in ("unlearn_s", "retrain_s"))
    took = f"One request takes {unlearn:.1f} s to unlearn, one retraining {retrain:.1f} s (means)."
    return "\n\n".join((markdown_table(("model", *METRICS), cells), took))


def shown(values: Values) -> Sequence[str]:
    """Return the cells of a model."""
    return ["–" if np.isnan(values[name]) else f"{values[name]:.1f}" for name in METRICS]


def write(path: Path, text: str) -> None:
    """Write a file as a whole."""
    with replacing(path) as temporary:
        temporary.write_text(text + "\n")


def main() -> None:
    """Handle the requests, retrain, and compare."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--folder", type=Path, default=Path("sequence"))
    parser.add_argument("--references", type=int, default=3, help="models to retrain, >= 2")
    args = parser.parse_args()
    told = tell(args.folder.resolve(), args.references)
    write(args.folder / "result.json", json.dumps(told, indent=1))
    text = page(told)
    write(args.folder / "result.md", text)
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
