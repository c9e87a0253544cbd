"""Drills on MLflow: its server killed and started again, answering 500, not answering."""

import os
import random
import select
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from tests.drills.ground import PAIR, SINGLE, Ground, Outcome, Scene, expect, strike, went_on
from tests.drills.process import ROOT, Command
from tests.drills.servers import Server, free_port

OUTAGE_S = 20.0
Mode: TypeAlias = Literal["pass", "500", "hang"]
ANSWER_500 = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwrong"
)


def outage(seed: int, folder: Path, ground: Ground) -> Outcome:
    """The server is killed, answers 500 or hangs for a while; at the end MLflow has everything."""
    rng = random.Random(f"outage {seed}")
    kind = ("killed", "500", "hang")[seed % 3]
    scene = ground.scene(PAIR if seed % 4 == 3 else SINGLE, folder)
    with mlflow_server(scene.folder) as server, gate(server.port) as front:
        port = server.port if kind == "killed" else front.port
        scene.words = ["--set", f"tracking.uri=http://127.0.0.1:{port}"]
        scene.tracking = f"sqlite:///{scene.folder / 'server.db'}"
        command = scene.start()
        moment = strike(command, rng.choice(("start-up", "trials", "trials")), scene, rng)
        since = time.time()
        if kind == "killed":
            server.stop(signal.SIGKILL)
            time.sleep(OUTAGE_S)
            server.start()
        else:
            front.turn("500" if kind == "500" else "hang")
            time.sleep(OUTAGE_S)
            front.turn("pass")
        expect(command, 0)
        caught_up = _catch_up(scene, command)
        return scene.outcome(f"{kind}, {moment}, {caught_up}", went_on(command, since))


def _catch_up(scene: Scene, command: Command) -> str:
    """Deliver what the sweep could not deliver; return whether there was anything."""
    if "tracking:" not in command.said:
        return "delivered by the sweep"
    words = ["sync", scene.undisturbed.study, "--home", str(scene.home), *scene.words]
    sync = scene.ground.start(words, scene.folder / "sync.err", scene.environment)
    expect(sync, 0)
    return "delivered by sync"


@contextmanager
def mlflow_server(folder: Path) -> Iterator[Server]:
    """Run MLflow's server on a database in a folder."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    # Like `mixunlearn ui`: without four processes that wait for jobs of other kinds.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = Server(command, port, folder / "server.log", cwd=ROOT, env=environment)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)


@contextmanager
def gate(behind: int) -> Iterator["Gate"]:
    """Run a gate in front of a port."""
    with Gate(behind) as front:
        thread = threading.Thread(target=front.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield front
        finally:
            front.turn("500")  # ends open connections
            front.shutdown()


class Gate(socketserver.ThreadingTCPServer):
    """Passes connections on to a port of this machine, answers 500, or never answers."""

    daemon_threads, block_on_close = True, False

    def __init__(self, behind: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.behind, self.port = behind, self.server_address[1]
        self.mode: Mode = "pass"
        self.turned = threading.Event()

    def turn(self, mode: Mode) -> None:
        """Change what happens to all connections; those that are open end."""
        before, self.turned, self.mode = self.turned, threading.Event(), mode
        before.set()


class _Connection(socketserver.BaseRequestHandler):
    """One connection to the gate."""

    def handle(self) -> None:
        """Handle the connection as the gate is set at present."""
        assert isinstance(self.server, Gate)
        turned, mode = self.server.turned, self.server.mode
        if mode == "pass":
            self._pass(self.server.behind, turned)
        elif mode == "hang":
            turned.wait()
        else:
            self.request.recv(65536)
            self.request.sendall(ANSWER_500)

    def _pass(self, port: int, turned: threading.Event) -> None:
        with closing(socket.create_connection(("127.0.0.1", port))) as behind:
            ends = {self.request: behind, behind: self.request}
            while not turned.is_set():
                ready, _, _ = select.select(list(ends), [], [], 0.1)
                for one in ready:
                    if not (content := one.recv(65536)):
                        return
                    ends[one].sendall(content)
