"""Drills on files that others take away: the storage, checkpoints, the lock, the whole home."""

import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.drills.drivers import REFUSED_S
from tests.drills.ground import (
    DONE,
    FAILED,
    SINGLE,
    Ground,
    Outcome,
    Scene,
    expect,
    strike,
    went_on,
)
from tests.drills.process import Command, DrillError

AWAY_S = 20.0
# Where the storage is, and what happens to it.
WAYS = (
    ("storage.files", "away"),
    ("checkpoints", "away"),
    ("storage.files", "read-only"),
    ("checkpoints", "read-only"),
)
PHASES = ("trials", "trials", "final")
LOCKED = r"is locked by (process \d+ on \S+ since|another process)"
STRAY = 10.0  # seconds that processes of a killed driver may need to end


def away(seed: int, folder: Path, ground: Ground) -> Outcome:
    """The storage of files is away, or read-only, for some seconds; the sweep waits and ends."""
    rng, (place, how) = random.Random(f"storage-away {seed}"), WAYS[seed % len(WAYS)]
    scene = ground.scene(SINGLE, folder)
    target = scene.study / "checkpoints"
    if place == "storage.files":
        target = folder / "files"
        target.mkdir()
        scene.words = ["--set", f"storage.files={target}"]
    command = scene.start()
    moment = strike(command, rng.choice(PHASES), scene, rng)
    moment = f"{place} {how} for {AWAY_S:g} s, {moment}"
    try:
        with taken(target) if how == "away" else read_only(target):
            time.sleep(AWAY_S)
    except subprocess.CalledProcessError as error:
        return Outcome(skipped=f"nothing can be mounted here: {error}")
    back = time.time()
    expect(command, DONE)
    return scene.outcome(moment, went_on(command, back))


@contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Take a folder away; a file of its name makes every access an error."""
    aside = folder.with_name(f"{folder.name}.aside")
    folder.rename(aside)
    folder.touch()
    try:
        yield
    finally:
        folder.unlink()
        aside.rename(folder)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only, also for root.

    Raises:
        CalledProcessError: this process has no permission.
    """
    mount = ["mount", "--bind"]
    subprocess.run([*mount, str(folder), str(folder)], check=True, capture_output=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def delete(seed: int, folder: Path, ground: Ground) -> Outcome:
    """Delete all checkpoints while trials run, up to three times; then kill the driver, or not."""
    rng = random.Random(f"checkpoints-deleted {seed}")
    scene = ground.scene(SINGLE, folder)
    command = scene.start()
    moments = []
    for _ in range(rng.randint(1, 3)):
        moments.append(strike(command, "trials", scene, rng))
        shutil.rmtree(scene.study / "checkpoints", ignore_errors=True)
    since = time.time()
    if seed % 2:
        moments.append("driver killed")
        command.kill()
        command = scene.finish()
        since = command.began
    expect(command, DONE)
    return scene.outcome(", ".join(moments), went_on(command, since))


def unlock(seed: int, folder: Path, ground: Ground) -> Outcome:
    """Remove the lock's file, then start a second driver: it is refused."""
    rng = random.Random(f"lock-removed {seed}")
    scene = ground.scene(SINGLE, folder)
    holder = scene.start()
    lock = scene.study / "driver.lock"
    while not lock.exists() and holder.process.poll() is None:
        time.sleep(0.01)
    wait = rng.uniform(0, scene.undisturbed.spans[0])
    time.sleep(wait)
    lock.unlink()
    _require_refused(scene.start())
    if seed % 2:
        holder.kill()
        holder = scene.finish()
    expect(holder, DONE)
    killed = ", then the holder killed" if seed % 2 else ""
    return scene.outcome(f"removed {wait:.2f} s after the start{killed}", went_on(holder))


def _require_refused(command: Command) -> None:
    code = command.wait(REFUSED_S)
    if code != FAILED or not re.search(LOCKED, command.said):
        raise DrillError(f"a second driver was not refused: exit code {code}, {command.last}")


def move(seed: int, folder: Path, ground: Ground) -> Outcome:
    """Move or copy the home of a killed sweep; the sweep ends in the new home alone."""
    rng, copied = random.Random(f"home-moved {seed}"), seed % 2 == 1
    scene = ground.scene(SINGLE, folder)
    command = scene.start()
    moment = strike(command, rng.choice(PHASES), scene, rng)
    command.kill()
    command.clear(STRAY)  # its workers may still write
    before = scene.home
    scene.place = rng.choice(("moved", "moved here, at 50%20% [of] it"))
    if copied:
        shutil.copytree(before, scene.home, symlinks=True)
    else:
        before.rename(scene.home)
    old = _content(before)
    last = scene.finish()
    changed = sorted(set(old.items()) ^ set(_content(before).items()))
    if changed:
        raise DrillError(f"the old home was changed: {', '.join(name for name, _ in changed[:5])}")
    _require_artifacts(scene)
    how = "copied" if copied else "moved"
    return scene.outcome(f"{how} to {scene.place!r}, {moment}", went_on(last))


def _content(home: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of the last change of every file, by name; empty without the home."""
    found = {}
    for path in home.rglob("*"):
        with suppress(FileNotFoundError):
            status = path.lstat()
            if not path.is_dir():
                name = path.relative_to(home).as_posix()
                found[name] = (status.st_size, status.st_mtime_ns)
    return found


def _require_artifacts(scene: Scene) -> None:
    """Check that the files of MLflow's runs are in the new home."""
    found = [path.name for path in scene.home.glob("mlartifacts/**/summary.json")]
    if len(found) != 1:
        raise DrillError(f"the new home has {len(found)} copies of summary.json in mlartifacts")
