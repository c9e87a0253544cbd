"""Drills on the study's database: PostgreSQL stops while a study runs, and comes back."""

import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

from tests.drills.ground import PAIR, SINGLE, Ground, Outcome, expect, strike, went_on
from tests.drills.servers import Server, free_port
from tests.postgres import postgres_programs, unprivileged

OUTAGE_S = 5.0


def restart(seed: int, folder: Path, ground: Ground) -> Outcome:
    """Restart PostgreSQL at a random moment of the study, gracefully or with kill -9."""
    rng = random.Random(f"restart {seed}")
    scene = ground.scene(SINGLE if seed % 3 else PAIR, folder)
    with postgres() as server:
        address = f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
        scene.storage = address
        scene.words = ["--set", f"storage.study={address}"]
        command = scene.start()
        moment = strike(command, rng.choice(("start-up", "trials", "trials")), scene, rng)
        number = rng.choice((signal.SIGINT, signal.SIGKILL))  # SIGINT: fast shutdown
        server.stop(number)
        since = time.time()
        time.sleep(rng.uniform(0, 2 * OUTAGE_S))
        server.start()
        if command.wait() != 0:  # a sweep needs its database when it starts
            command = scene.finish()
        expect(command, 0)
        return scene.outcome(f"{number.name}, {moment}", went_on(command, since))


@contextmanager
def postgres() -> Iterator[Server]:
    """Run an empty PostgreSQL."""
    folder = Path(tempfile.mkdtemp(prefix="drill-pg-"))  # a folder that another user can enter
    options = unprivileged(folder)
    programs = postgres_programs(options)
    initdb = [str(programs / "initdb"), "--username=postgres", "--auth=trust", "--no-sync"]
    make = [*initdb, "--encoding=UTF8", "--locale=C", f"--pgdata={folder / 'data'}"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL, **options)
    port = free_port()
    here = ["-h", "127.0.0.1", "-p", str(port)]
    command = [str(programs / "postgres"), "-D", str(folder / "data"), *here]
    server = Server(
        [*command, "-c", "unix_socket_directories="], port, folder.with_suffix(".log"), **options
    )
    server.start()
    ready = [str(programs / "pg_isready"), "--quiet", *here]
    while subprocess.run(ready, check=False, **options).returncode:
        time.sleep(0.1)
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)
        rmtree(folder)
        server.log.unlink()
