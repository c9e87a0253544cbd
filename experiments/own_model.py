"""A real deletion request from its beginning to its end: a user's model, data and 37 images.

    PYTHONPATH=. python experiments/own_model.py --folder story
    PYTHONPATH=. python experiments/own_model.py --folder story --tiny     # a try in two minutes

The user's side is `experiments/own_net.py`: a network with a cosine head, trained there, and data
in Parquet. The steps are commands as a user types them, in the folder:

1. `python own_net.py`: the data and the trained model.
2. `mixunlearn sweep`: a method is tuned on a random forget set of 37 images, with proxies.
3. `mixunlearn unlearn` of 37 other images with the winner.
4. The same with `--verify`, which retrains, and `mixunlearn record verify`.
5. The same request in ten lines of Python.

A step whose result is there is not repeated. What was measured goes to `result.json` and
`result.md` in the folder.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mixunlearn.atomic import replacing
from report.notation import markdown_table
from report.request_card import HEADING, costs, headline, rows

Content = dict[str, Any]

HERE = Path(__file__).resolve().parent
STUDY, IMAGES = "own-model", 37
PYTHON = """\
import json, sys, numpy as np, torch
import own_net
from mixunlearn import unlearn

(images, labels), (unseen, truth) = (own_net.read(f"{part}.parquet") for part in ("train", "test"))
model = own_net.load("model.pt")
asked = np.isin(np.arange(len(images)), np.loadtxt("ids.csv", int, skiprows=1))
found = json.load(open("forgotten/record.json"))["configuration"]
forget, retain = ((images[rows], labels[rows]) for rows in (asked, ~asked))
result = unlearn(model, forget, retain, found["method"], epochs=found["epochs"],
                 held_out=(unseen, truth), **found["hyperparameters"])
retrained = own_net.trained(*retain, seed=1)
print(result.evaluate(retrained=retrained))
torch.save(result.model.state_dict(), "forgotten.pt")
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is computed.

    Args:
        train, test: number of images.
        references: keys of the section `references`.
        search: keys of the section `search`.
    """

    train: int
    test: int
    references: Mapping[str, int]
    search: Mapping[str, int]


FULL = Size(
    train=2000,
    test=800,
    references={"originals": 4, "seeds": 5, "proxies": 10},
    search={"trials": 8, "epochs": 4},
)
TINY = Size(
    train=400,
    test=160,
    references={"originals": 3, "seeds": 3, "proxies": 3},
    search={"trials": 2, "epochs": 2},
)


class Story:
    """The steps in a folder, with what they said and how long they took.

    Args:
        folder: for everything.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path = self.folder / "steps.json"
        self.steps: Content = json.loads(self._path.read_text()) if self._path.exists() else {}

    def step(self, name: str, words: Sequence[str], codes: Sequence[int] = (0,)) -> Content:
        """Run a command, unless it was run before; return its exit code, time and words.

        Raises:
            SystemExit: the exit code is none of the expected ones.
        """
        if name not in self.steps:
            print(f"{name}: {' '.join(words)}", file=sys.stderr)  # noqa: T201
            program = [sys.executable, *(["-m"] if words[0] == "mixunlearn" else []), *words]
            beside = os.pathsep.join([str(self.folder), str(HERE.parent)])
            began = time.monotonic()
            with (self.folder / f"{name}.log").open("w") as log:
                done = subprocess.run(
                    program,
                    cwd=self.folder,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    check=False,
                    env={**os.environ, "PYTHONPATH": beside},
                )
            seconds = round(time.monotonic() - began, 1)
            if done.returncode not in codes:
                said = (self.folder / f"{name}.log").read_text()
                raise SystemExit(f"{name}: exit code {done.returncode}\n{said[-2000:]}")
            self.steps[name] = {
                "command": " ".join(words),
                "code": done.returncode,
                "seconds": seconds,
                "said": done.stdout,
            }
            write(self._path, json.dumps(self.steps, indent=1))
        found: Content = self.steps[name]
        return found


def write(path: Path, text: str) -> None:
    """Write a file as a whole."""
    with replacing(path) as temporary:
        temporary.write_text(text + "\n")


def experiment(size: Size) -> Content:
    """Return the experiment that tunes a method for requests like this one."""
    return {
        "name": STUDY,
        "data": {"source": "parquet", "train": "train.parquet", "test": "test.parquet"},
        "model": {"name": "own_net:build", "original": "model.pt"},
        "task": {"kind": "random", "fraction": IMAGES / size.train},
        "labels": "aware",
        "method": "salun",
        "references": {"recipe": "own_net:train", **size.references},
        "search": dict(size.search),
    }


def tell(story: Story, size: Size) -> Content:
    """Do what is missing; return what was measured."""
    folder = story.folder
    if not (folder / "own_net.py").exists():  # a changed file would be another recipe
        shutil.copy(HERE / "own_net.py", folder)
    words = ["own_net.py", "--train", str(size.train), "--test", str(size.test)]
    story.step("train", words)
    if not (folder / "experiment.yaml").exists():
        write(folder / "experiment.yaml", yaml.safe_dump(experiment(size), sort_keys=False))
    rows_N = np.random.default_rng(2).choice(size.train, IMAGES, replace=False)
    write(folder / "ids.csv", "\n".join(["id", *map(str, sorted(rows_N.tolist()))]))
    write(folder / "forget.py", PYTHON.rstrip())
    at_home = ["--home", "home"]
    sweep = story.step("sweep", ["mixunlearn", "sweep", "experiment.yaml", *at_home, "--json"])
    study = json.loads(sweep["said"].splitlines()[-1])["study"]
    asked = ["--forget", "ids.csv", "--config", study, "--out", "forgotten", *at_home, "--json"]
    unlearned = story.step("unlearn", ["mixunlearn", "unlearn", *asked])
    states = (0, 5, 6, 7, 8)  # one for each verdict
    verified = story.step("verify", ["mixunlearn", "unlearn", *asked, "--verify"], states)
    checked = story.step("record", ["mixunlearn", "record", "verify", *at_home])
    copy = ["mixunlearn", "record", "verify", "forgotten/record.json", *at_home]
    copied = story.step("copy", copy)
    python = story.step("python", ["forget.py"])
    summary = json.loads((folder / "home/studies" / study / "summary.json").read_text())
    return {
        "before": json.loads(unlearned["said"].splitlines()[-1]),
        "record": json.loads(verified["said"].splitlines()[-1]),
        "own": summary["own"],
        "proxies": summary["proxies"],
        "chain": [checked["said"].strip(), copied["said"].strip()],
        "python": python["said"],
        "steps": {
            name: {key: each[key] for key in ("command", "code", "seconds")}
            for name, each in story.steps.items()
        },
    }


def bias(record: Mapping[str, Any]) -> list[Content]:
    """Return for each predicted metric whether its interval holds the bias that was found.

    The bias of the user's model: after unlearning − mean of the retrained models.
    """
    measured = record["measured"]
    found = []
    for name, told in record["prediction"]["metrics"].items():
        shown = measured["after"][name] - float(np.mean(measured["retrained"][name]))
        inside = told["low"] is not None and told["low"] <= shown <= told["high"]
        found.append({"metric": name, **told, "found": shown, "held": inside})
    return found


def page(told: Mapping[str, Any]) -> str:
    """Return what was measured as Markdown."""
    record, first = told["record"], told["before"]
    found = bias(record)
    margins = {each["metric"]: each["margin"] for each in found}
    cells = [(f"`{name}`", *rest) for name, *rest in rows(record, margins)]
    compared = [
        (
            f"`{each['metric']}`",
            f"{each['bias']:+.2f}",
            "–" if each["low"] is None else f"{each['low']:+.2f} to {each['high']:+.2f}",
            f"{each['found']:+.2f}",
            "yes" if each["held"] else "**no**",
        )
        for each in found
    ]
    steps = [
        (name, f"`{each['command']}`", str(each["code"]), f"{each['seconds']:.1f}")
        for name, each in told["steps"].items()
    ]
    verdict = record["verdict"]
    return "\n\n".join(
        (
            f"# {record['forget']['images']} images of an own model",
            f"Without retraining: {headline(first)}. With `--verify`: **{verdict['state']}** "
            f"({verdict['originals']} originals, {verdict['references']} references): "
            f"{'; '.join(verdict['reasons'])}. {costs(record)}.",
            markdown_table(HEADING, cells),
            "The bias found is that of the user's model, after − mean of retrained, in points.",
            markdown_table(("metric", "predicted", "90 % interval", "found", "held"), compared),
            markdown_table(("step", "command", "exit code", "seconds"), steps),
            f"The chain: {'; '.join(told['chain'])}",
            f"From Python:\n\n```\n{told['python']}```",
        )
    )


def main() -> None:
    """Tell the story."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--folder", type=Path, default=Path("story"))
    parser.add_argument("--tiny", action="store_true", help="few images and models")
    args = parser.parse_args()
    story = Story(args.folder)
    told = tell(story, TINY if args.tiny else FULL)
    write(
        story.folder / "result.json", json.dumps({**told, "bias": bias(told["record"])}, indent=1)
    )
    text = page(told)
    write(story.folder / "result.md", text)
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
