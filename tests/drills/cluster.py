"""Drills on a cluster: two nodes on loopback addresses, one of which disappears."""

import random
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

from tests.drills.ground import PAIR, Ground, Outcome, expect, strike, went_on
from tests.drills.process import DrillError, end
from tests.drills.servers import START_S, Server, free_port, put_over
from tests.warm import BY_PIPE, PARENT

REGISTERED = "Raylet consists of"  # in a raylet's log, once the head has accepted it
MEMORY = 80 * 2**20  # of a node's object store


def lose(seed: int, folder: Path, ground: Ground) -> Outcome:
    """Kill -9 the raylet of the second node; or stop the node and let it join again."""
    rng = random.Random(f"lost-node {seed}")
    scene = ground.scene(PAIR, folder)
    with nodes(rng) as two:
        scene.environment = two.environment
        scene.words = ["--address", two.address]
        command = scene.start()
        moment = strike(command, "trials", scene, rng)
        since = time.time()
        if seed % 2:
            what = "stopped and joined"
            two.second.stop(signal.SIGTERM)
            time.sleep(rng.uniform(0, 3))
            two.second.start()
        else:
            what = "raylet killed"
            raylets = two.second.pids("raylet")
            if not raylets:
                raise DrillError("the second node has no raylet")
            for pid in raylets:
                end(pid)
        expect(command, 0)
        return scene.outcome(f"{what}, {moment}", went_on(command, since))


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """A head and a second node.

    Args:
        head: process of the first node.
        second: process of the second node.
        address: address for drivers.
        environment: environment for drivers.
    """

    head: Server
    second: Server
    address: str
    environment: dict[str, str]


@contextmanager
def nodes(rng: random.Random, command: Sequence[str] = ()) -> Iterator[Nodes]:
    """Run a cluster of two nodes with one processor each.

    Args:
        rng: draws the network's address.
        command: Ray's command, for workers that start normally [workers are forks of a process
            that has imported everything].
    """
    # Short, because it contains sockets, and the length of their paths is limited.
    folder = Path(tempfile.mkdtemp(prefix="drc-"))
    network = f"127.{rng.randint(10, 250)}.{rng.randint(0, 250)}"
    port = free_port(f"{network}.2")
    address = f"{network}.2:{port}"
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment |= {} if command else BY_PIPE
    common = [f"--object-store-memory={MEMORY}", "--num-cpus=1", "--disable-usage-stats"]
    common += ["--min-worker-port=0", "--max-worker-port=0", "--block"]
    ray = [*(command or PARENT.ray), "start", *common]
    head = [*ray, "--head", f"--node-ip-address={network}.2", f"--port={port}"]
    head += ["--include-dashboard=false", f"--temp-dir={folder / 'a'}"]
    head += [f"--ray-client-server-port={free_port()}"]
    # A folder of its own: a node that leaves removes the code that its workers run.
    joined = [*ray, f"--address={address}", f"--node-ip-address={network}.3"]
    joined += [f"--temp-dir={folder / 'b'}"]
    options: dict[str, Any] = {"host": f"{network}.2", "env": put_over(environment)}
    first = Server(head, port, folder / "head.log", **options)
    second = Server(joined, port, folder / "second.log", **options)
    try:
        first.start()
        second.start()
        _await_raylet(second, folder / "b")
        yield Nodes(head=first, second=second, address=address, environment=environment)
    finally:
        for node in (second, first):
            node.stop(signal.SIGKILL)  # a graceful stop of a node without a raylet takes 20 s
        rmtree(folder, ignore_errors=True)


def _await_raylet(node: Server, logs: Path) -> None:
    """Wait until a node has joined the cluster: its server only shows that the head listens.

    Raises:
        DrillError: it does not join in time.
    """
    deadline = time.monotonic() + START_S
    while not any(REGISTERED in log.read_text() for log in logs.glob("**/raylet*.out")):
        ended = node.process is None or node.process.poll() is not None
        if ended or time.monotonic() > deadline:
            raise DrillError(f"the second node did not join, see {node.log}")
        time.sleep(0.1)
