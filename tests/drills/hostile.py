"""Drills with hostile input that would run a command if it were unpickled or trusted."""

import hashlib
import json
import os
import pickle
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from mixunlearn.errors import InputError
from mixunlearn.files import Files
from tests.drills.ground import BAD_INPUT, FAILED, SINGLE, Ground, Outcome, Scene, expect, strike
from tests.drills.process import DrillError

TRAP = "trapped"  # the file that appears if anything is executed


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def attack(seed: int, folder: Path, ground: Ground) -> Outcome:
    """Offer hostile input, then check that nothing ran and nothing was written outside the home."""
    rng, name = random.Random(f"hostile {seed}"), list(ATTACKS)[seed % len(ATTACKS)]
    scene = ground.scene(SINGLE, folder, finished=name != "checkpoint")
    trap = scene.folder / TRAP
    ATTACKS[name](scene, Payload(f"touch {trap}"), rng)
    scene.finish()
    if trap.exists():
        raise DrillError(f"{name}: it was executed")
    known = {"home", "drill.yaml", "hostile.yaml", "hostile.parquet"}
    strange = {path.name for path in scene.folder.iterdir() if path.suffix not in (".err", ".out")}
    if strange - known:
        raise DrillError(f"{name}: written outside of the home: {sorted(strange - known)}")
    return scene.outcome(name, None)


def _checkpoint(scene: Scene, payload: Payload, rng: random.Random) -> None:
    """Replace all files of checkpoints, including digests, and add pickles where Ray has some."""
    command = scene.start()
    strike(command, "trials", scene, rng)
    command.kill()
    content = pickle.dumps(payload)
    for folder in (scene.study / "checkpoints").glob("*/*/checkpoint_*"):
        names = [path.name for path in folder.iterdir() if path.name != "manifest.json"]
        for name in [*names, "checkpoint.pkl", "state.pkl", "data.pkl"]:
            (folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        (folder / "manifest.json").write_text(json.dumps(dict.fromkeys(names, digest)))
    for run in (scene.study / "checkpoints").iterdir():
        for name in ("trainable.pkl", "tuner.pkl", "searcher-state-0.pkl", "search_gen_state.pkl"):
            (run / name).write_bytes(content)


def _table(scene: Scene, payload: Payload, rng: random.Random) -> None:
    _hostile_parquet(scene.study / "trials.parquet", payload)


def _source(scene: Scene, payload: Payload, rng: random.Random) -> None:
    path = scene.folder / "hostile.parquet"
    _hostile_parquet(path, payload)
    data = f"{{source: parquet, train: '{path}', test: '{path}', image: image, label: label}}"
    _refused(scene, "--set", f"data={data}")


def _yaml(scene: Scene, payload: Payload, rng: random.Random) -> None:
    tag = f"!!python/object/apply:os.system ['{payload.command}']"
    hostile = scene.folder / "hostile.yaml"
    hostile.write_text(f"{scene.experiment.read_text()}\nlabels: {tag}\n")
    _refused(scene, "--set", f"labels={tag}")
    honest = scene.experiment.read_text()
    scene.experiment.write_text(hostile.read_text())
    _refused(scene)
    scene.experiment.write_text(honest)


def _names(scene: Scene, payload: Payload, rng: random.Random) -> None:
    for name in ("../../escape", "/escape", "..", "a/../../../escape"):
        _refused(scene, "--set", f"name={yaml.safe_dump(name).splitlines()[0]}")
        try:
            Files.of(scene.home) / "store" / name / "entry"
        except InputError:
            continue
        raise DrillError(f"the store takes {name!r} for a key")


ATTACKS: Mapping[str, Callable[[Scene, Payload, random.Random], None]] = {
    "checkpoint": _checkpoint,
    "trials.parquet": _table,
    "data source": _source,
    "YAML": _yaml,
    "names": _names,
}


def _refused(scene: Scene, *words: str) -> None:
    """Check that a command ends with one line.

    Raises:
        DrillError: it does not end in that way.
    """
    command = scene.start(*words)
    expect(command, BAD_INPUT, FAILED)
    if "Traceback" in command.said:
        raise DrillError(f"a traceback: {command.last}")


def _hostile_parquet(path: Path, payload: Payload) -> None:
    """Write a table with a type that old pyarrow unpickled, and with paths outside the home."""
    content = pickle.dumps(payload)
    images = [{"bytes": content, "path": "../../../../etc/passwd"}] * 40
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": content,
    }
    columns = {
        "trial": pa.array(range(40)),
        "image": pa.array(images),
        "label": pa.array([index % 2 for index in range(40)]),
        "mlflow_run_id": pa.array(["../../escape"] * 40),
        "study": pa.array([b"x"] * 40),
    }
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    fields[-1] = fields[-1].with_metadata(metadata)
    pq.write_table(pa.table(list(columns.values()), schema=pa.schema(fields)), path)
