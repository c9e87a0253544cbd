"""Drills on a full disk: a small file system under the home, the study or its checkpoints."""

import os
import random
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.drills.ground import DONE, FAILED, SINGLE, Ground, Outcome, Scene, strike, went_on
from tests.drills.process import DrillError

SIZE_MIB = 320  # a sweep asks for 200 MiB before it starts
LEFT = (0, 0, 4096, 65536)  # bytes that stay free, so that a different writer fails first each time
CAUSE = re.compile(r"no space left|disk( is)? full|free space", re.IGNORECASE)
PLACES = ("checkpoints", "study", "home")  # the second holds trials.parquet and the SQLite record


def fill(seed: int, folder: Path, ground: Ground) -> Outcome:
    """Fill the disk at a random moment; when there is room again, the same command finishes."""
    rng, place = random.Random(f"full-disk {seed}"), PLACES[seed % len(PLACES)]
    scene = ground.scene(SINGLE, folder)
    target = {
        "checkpoints": scene.study / "checkpoints",
        "study": scene.study,
        "home": scene.home,
    }[place]
    try:
        with small_disk(target) as disk:
            return _fill(scene, disk, place, rng)
    except subprocess.CalledProcessError as error:
        return Outcome(skipped=f"no file system can be mounted here: {error}")


def _fill(scene: Scene, disk: Path, place: str, rng: random.Random) -> Outcome:
    if place == "home":  # the old content is hidden below the new file system
        below = scene.folder / "below"
        subprocess.run(["cp", "-a", f"{below}/.", str(disk)], check=True)
    command = scene.start()
    moment = strike(command, rng.choice(("start-up", "trials", "trials", "final")), scene, rng)
    left = rng.choice(LEFT)
    ballast = disk / "ballast"
    _fill_up(disk, ballast, left)
    code = command.wait()
    said = command.said
    ballast.unlink()
    last = scene.finish()
    moment = f"{place}, {left} bytes left, {moment}, exit code {code}"
    if code not in (DONE, FAILED):
        raise DrillError(f"{moment}: {command.last}")
    if code == FAILED and not CAUSE.search(command.last):
        raise DrillError(f"{moment}: the cause is not named: {said[-300:]}")
    return scene.outcome(moment, went_on(last))


def _fill_up(disk: Path, ballast: Path, left: int) -> None:
    """Leave the given number of bytes free; the sweep may use some while we count."""
    with ballast.open("wb") as file:
        while True:
            status = os.statvfs(disk)
            size = max(1, status.f_bavail * status.f_frsize - left)
            with suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, size)
                return


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a small file system on a folder; the folder's content is kept next to it.

    Raises:
        CalledProcessError: this process has no permission.
    """
    below = folder.parent / "below"
    if folder.exists():
        folder.rename(below)
    folder.mkdir(parents=True)
    size = f"size={SIZE_MIB}m"
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "drill", str(folder)], check=True, capture_output=True
    )
    try:
        yield folder
    finally:
        time.sleep(0.1)
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
