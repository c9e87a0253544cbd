"""Processes whose driver was killed."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from distributed.cluster.orphans import DRIVER, end_orphans, marked

ROOT = Path(__file__).parents[2]
CHILD = "import sys; print(flush=True); sys.stdin.read()"
PARENT = """
import subprocess, sys
from distributed.cluster.orphans import marked
with marked():
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_only_processes_of_a_dead_driver_are_ended() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        subprocess.Popen(
            [sys.executable, "-c", PARENT, CHILD],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as driver,
        marked(),
        subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE) as ours,
    ):
        assert driver.stdout
        assert driver.stdin
        assert ours.stdin
        child = psutil.Process(int(driver.stdout.readline()))
        end_orphans()
        assert child.is_running()
        driver.kill()
        driver.wait()
        assert child.is_running()  # it reads from the same pipe as its driver, which is still open
        assert end_orphans() == 1
        assert not child.is_running()
        assert ours.poll() is None
        ours.stdin.close()
        driver.stdin.close()
    assert DRIVER not in os.environ
