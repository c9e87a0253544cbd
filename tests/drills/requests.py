"""The drill on deletion requests: ten in sequence, with kills, a stop, and two commands at once."""

import json
import random
import shlex
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from sklearn.datasets import load_digits

from mixunlearn.files import digest
from mixunlearn.problem import Architecture
from tests.drills.drivers import GOES_ON, REFUSED_S
from tests.drills.faults import Moment, dying
from tests.drills.ground import DONE, FAILED, Ground, Outcome, expect
from tests.drills.process import Command, DrillError
from tests.parquet import write_images

REQUESTS, EACH = 10, 4
TRAIN, TEST = 300, 100  # images
LEAST = 6  # disturbances of a run
WIDTH = 4
CONFIGURATION = {"method": "finetune", "epochs": 3, "hyperparameters": {"lr": 1e-3}}
REFUSAL = "another command is writing there"
KILLED = -signal.SIGKILL
RUN, CARRY, RECORD = (f"distributed.requests.{name}" for name in ("run", "carry_out", "record"))
MOMENTS = {
    "after an epoch": Moment(module=RUN, function="_checkpoint", after=True),
    "while weights are written": Moment(module=RUN, function="save_file", after=True),
    "when weights are written": Moment(module=RUN, function="_write_weights", after=True),
    "before the record": Moment(module=RECORD, function="written"),
    "between the record and its copy": Moment(module=CARRY, function="_write"),
    "between the card and the copy": Moment(module=CARRY, function="card", after=True),
    "before the checkpoints are removed": Moment(module=CARRY, function="tidy"),
    "before the page over all": Moment(
        module="distributed.requests.sequence", function="sequence_page"
    ),
}


@dataclass(kw_only=True)
class Place:
    """A folder with requests, and what commands make of them.

    Args:
        ground: what the drills share.
        folder: for this run alone.
        commands: that were started here.
    """

    ground: Ground
    folder: Path
    commands: list[Command] = field(default_factory=list)

    @property
    def out(self) -> Path:
        """The folder of the results."""
        return self.folder / "out"

    @property
    def home(self) -> Path:
        """The home, with the chain of records."""
        return self.folder / "home"

    def start(self, *words: str, environment: Mapping[str, str] | None = None) -> Command:
        """Start a command in this home."""
        log = self.folder / f"{len(self.commands)}.err"
        given = [*words, "--home", str(self.home), "--json"]
        self.commands.append(self.ground.start(given, log, environment or {}))
        return self.commands[-1]

    def handle(self, environment: Mapping[str, str] | None = None) -> Command:
        """Start the command that handles all requests."""
        here = self.folder
        words = ["unlearn", "--model", "cnn", "--data", str(here / "train.parquet")]
        words += ["--weights", str(here / "model.pt"), "--config", str(here / "how.yaml")]
        words += ["--requests", str(here / "lists"), "--out", str(self.out)]
        settings = [f"model.width={WIDTH}", f"data.test={here / 'test.parquet'}"]
        words += [word for each in settings for word in ("--set", each)]
        # Two threads would wait for each other on a busy machine.
        threads = {"OMP_NUM_THREADS": "1"}
        return self.start(*words, "--device", "cpu", environment={**threads, **(environment or {})})

    def records(self) -> list[dict[str, Any]]:
        """Return the records of the home, in order."""
        found = sorted((self.home / "records").glob("*.json"))
        return [json.loads(path.read_text()) for path in found]

    def files(self) -> set[str]:
        """Return all files, also hidden ones, except those of the home's records."""
        return {
            str(path.relative_to(self.folder))
            for part in (self.out, self.home)
            for path in part.rglob("*")
        }


def interrupt(seed: int, folder: Path, ground: Ground) -> Outcome:
    """Handle ten requests in sequence while commands are killed, stopped and started twice."""
    rng = random.Random(f"requests {seed}")
    calm, place = (_prepared(ground, folder / name, seed) for name in ("calm", "disturbed"))
    expect(calm.handle(), DONE)
    ways: dict[str, Callable[[Place], bool]] = {
        # The first time may be in the request that the kill before has cut off, or in the next.
        **{
            name: _killer(replace(moment, count=rng.choice((1, 2))))
            for name, moment in MOMENTS.items()
        },
        "SIGTERM": _stopped,
        "two commands at once": _two,
    }
    struck = [name for name in rng.sample(list(ways), len(ways)) if ways[name](place)]
    if len(struck) < LEAST:
        raise DrillError(f"all requests were handled too early; only this struck: {struck}")
    began = time.time()
    expect(place.handle(), DONE)
    return _outcome(place, calm, struck, time.time() - began)


def _prepared(ground: Ground, folder: Path, seed: int) -> Place:
    """Return a folder with a model, a configuration and the lists of the requests."""
    lists = folder / "lists"
    lists.mkdir(parents=True)
    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)
    for name, rows in (("train", slice(TRAIN)), ("test", slice(TRAIN, TRAIN + TEST))):
        labels = [int(label) for label in digits.target[rows]]
        write_images(images[rows], labels, folder / f"{name}.parquet")
    shape = (1, 8, 8)
    model = Architecture(name="cnn", width=WIDTH, image_shape=shape, classes=10).build(seed)
    torch.save({"state_dict": model.state_dict()}, folder / "model.pt")
    (folder / "how.yaml").write_text(yaml.safe_dump(CONFIGURATION))
    for number in range(REQUESTS):
        asked = range(EACH * number, EACH * (number + 1))
        (lists / f"r{number}.csv").write_text("\n".join(["id", *map(str, asked)]) + "\n")
    return Place(ground=ground, folder=folder)


def _killer(moment: Moment) -> Callable[[Place], bool]:
    """Return what starts a command that is killed at a moment, and says whether it was."""

    def strike(place: Place) -> bool:
        command = place.handle(dying(moment))
        # The requests may all be handled before the moment comes.
        expect(command, KILLED, DONE)
        return command.wait() == KILLED

    return strike


def _stopped(place: Place) -> bool:
    """Stop a command by SIGTERM while it unlearns; return whether it was still unlearning."""
    command = place.handle()
    if command.await_line("unlearning: epoch 2"):
        command.signal(signal.SIGTERM)
    expect(command, FAILED, DONE)
    if command.wait() == FAILED and command.when(GOES_ON) is None:
        raise DrillError(f"SIGTERM: it said {command.last!r}")
    return command.wait() == FAILED


def _two(place: Place) -> bool:
    """Start two commands at once; one is refused, the other is killed; return whether it was so."""
    both = [place.handle(), place.handle()]
    deadline = time.monotonic() + REFUSED_S
    while all(each.process.poll() is None for each in both):
        if time.monotonic() > deadline:
            raise DrillError("two commands at once: none ends")
        time.sleep(0.05)
    first, other = sorted(both, key=lambda each: each.process.poll() is None)
    other.kill()
    if first.wait() != DONE and REFUSAL not in first.said:
        raise DrillError(f"two commands at once: {first.last}")
    return first.wait() != DONE


def _outcome(place: Place, calm: Place, struck: Sequence[str], seconds: float) -> Outcome:
    """Compare everything with the undisturbed run."""
    names = [f"r{number}" for number in range(REQUESTS)]
    records = place.records()
    handled = [each["request"] for each in records]
    models = [(each["model"]["before"], each["model"]["after"]) for each in records]
    notes = [
        *(["the order of the records"] if handled != names else []),
        *(["a request is not from the model before it"] if _broken(models) else []),
        *(f"left or missing: {name}" for name in sorted(place.files() ^ calm.files())),
        *(f"copy of record {name}" for name, own in zip(names, records, strict=False)
          if json.loads((place.out / name / "record.json").read_text()) != own),
        *_traces(place),
    ]  # fmt: skip
    verify = place.start("record", "verify")
    if verify.wait() != DONE:
        notes.append(f"record verify: {verify.last}")
    altered = sum(
        digest(place.out / name / "model.safetensors")
        != digest(calm.out / name / "model.safetensors")
        for name in names
    )
    return Outcome(
        moment=", ".join(struck),
        lost=len({*names} - {*handled}),
        doubled=len(handled) - len({*handled}),
        altered=altered,
        seconds=seconds,
        note="; ".join(notes),
    )


def _broken(models: Sequence[tuple[str, str]]) -> bool:
    """Return whether a request began with another model than the one before it has released."""
    return any(after != before for (_, after), (before, _) in pairwise(models))


def _traces(place: Place) -> list[str]:
    logs = [each.log.name for each in place.commands if "Traceback" in each.said]
    return [f"traceback in {shlex.join(logs)}"] * bool(logs)
