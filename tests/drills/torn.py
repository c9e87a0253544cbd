"""Drills on files: truncated or with a flipped bit; the damage is detected and repaired."""

import random
from pathlib import Path

from tests.drills.ground import SINGLE, Ground, Outcome, Scene, strike, went_on
from tests.drills.process import DrillError

TARGETS = ("checkpoint", "trials.parquet", "store", "checkpoint", "summary.json")
STORED = ("models", "evaluations", "teachers", "unlearned", "splits")


def tear(seed: int, folder: Path, ground: Ground) -> Outcome:
    """Damage a file of a finished study, or the newest checkpoint of a killed one."""
    rng, target = random.Random(f"torn {seed}"), TARGETS[seed % len(TARGETS)]
    if target == "checkpoint":
        scene = ground.scene(SINGLE, folder)
        moment = _interrupt(scene, rng)
        path = _newest(scene)
    else:
        scene, moment = ground.scene(SINGLE, folder, finished=True), "the study was finished"
        path = _chosen(scene, target, rng)
    damage = tear_file(path, rng) if path else "no checkpoint yet"
    last = scene.finish()
    if target == "store" and path:
        _require_whole(path, ground.undisturbed(SINGLE).home / path.relative_to(scene.home))
    where = path.relative_to(scene.home) if path else ""
    return scene.outcome(f"{moment}; {damage} {where}", went_on(last))


def tear_file(path: Path, rng: random.Random) -> str:
    """Truncate a file, or flip one of its bits; return which."""
    content = bytearray(path.read_bytes())
    if rng.random() < 1 / 2:
        size = rng.randrange(len(content))
        path.write_bytes(content[:size])
        return f"cut to {size} of {len(content)} bytes:"
    at = rng.randrange(len(content))
    content[at] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"a bit of byte {at} of {len(content)} flipped:"


def _interrupt(scene: Scene, rng: random.Random) -> str:
    """Kill the driver while trials run."""
    command = scene.start()
    moment = strike(command, "trials", scene, rng)
    command.kill()
    return moment


def _newest(scene: Scene) -> Path | None:
    """Return a file of the newest checkpoint of the newest trial."""
    found = sorted(scene.study.glob("checkpoints/*/*/checkpoint_*/*"), key=_time)
    return found[-1] if found else None


def _time(path: Path) -> int:
    return path.stat().st_mtime_ns


def _chosen(scene: Scene, target: str, rng: random.Random) -> Path:
    """Return the file to damage."""
    if target != "store":
        return scene.study / target
    kind = rng.choice(STORED)
    found = sorted((scene.home / "store" / kind).glob("*/*"))
    return rng.choice([path for path in found if path.is_file() and path.stat().st_size])


def _require_whole(path: Path, original: Path) -> None:
    """Check that a damaged file of the store was restored; records also contain times."""
    if path.suffix == ".safetensors" and path.read_bytes() != original.read_bytes():
        raise DrillError(f"{path.parent.name}/{path.name} of the store is still damaged")
