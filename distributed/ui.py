"""Shows what was tracked: MLflow's own pages, served from the home on this machine alone."""

import contextlib
import http
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from distributed.addresses import REMOTE, one_line, redact, resolve, sqlite_path
from distributed.stop import terminated_as_interrupted
from distributed.tracking import DEFAULTS, reachable
from mixunlearn.errors import InputError, MissingError, MixUnlearnError

HOST = "127.0.0.1"  # MLflow then refuses other host names, and frames of other sites
START_S, GRACE_S, POLL_S = 120.0, 10.0, 0.1
LAST_PORT = 65535


def serve(
    home: Path,
    uri: str,
    artifact_location: str | None,
    port: int | None,
    announce: Callable[[str], None],
) -> int:
    """Serve MLflow's pages until Ctrl-C or SIGTERM; a tracking server has its own, so only say so.

    Args:
        home: the folder of studies.
        uri: the tracking address.
        artifact_location: where the artifacts are; None: under the home.
        port: of this machine; None: a free one.
        announce: is given one line with the link, once it answers.

    Returns:
        The exit code, 0.

    Raises:
        InputError: the port cannot be had.
        MissingError: nothing has been tracked yet.
        MixUnlearnError: MLflow did not start, or ended by itself.
    """
    if uri.startswith(REMOTE):
        announce(f"MLflow's pages are at {redact(uri)}")
        return 0
    with (
        terminated_as_interrupted(),
        contextlib.suppress(KeyboardInterrupt),
        server(home, uri, artifact_location, port) as running,
    ):
        announce(f"MLflow's pages are at {running.link} (Ctrl-C ends them)")
        running.process.wait()
        raise MixUnlearnError(f"MLflow's server ended: {running.last_line()}")
    return 0


class Server:
    """A running `mlflow server`: its process (leader of its own group), link and output."""

    def __init__(self, process: subprocess.Popen[bytes], link: str, output: IO[bytes]) -> None:
        self.process, self.link, self._output = process, link, output

    def last_line(self) -> str:
        """Return the last line it said about an error, else its last one; without passwords."""
        file = self._output.fileno()  # shared with the server: its place must not move
        lines = os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        errors = [line for line in said if "Error: " in line or "Exception: " in line]
        return redact([*(said or ["it said nothing"]), *errors][-1])

    def wait_until_ready(self) -> None:
        """Return when it answers.

        Raises:
            MixUnlearnError: it ended, or did not answer for two minutes.
        """
        deadline = time.monotonic() + START_S
        while not _answers(f"{self.link}/health"):
            if self.process.poll() is not None:
                raise MixUnlearnError(f"MLflow's server did not start: {self.last_line()}")
            if time.monotonic() > deadline:
                raise MixUnlearnError(f"MLflow's server does not answer: {self.last_line()}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End it and all it started: asked first, killed after a while or at a second Ctrl-C."""
        _signal(self.process.pid, signal.SIGTERM)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_S)
        finally:
            _signal(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def server(
    home: Path, uri: str, artifact_location: str | None, port: int | None
) -> Iterator[Server]:
    """Run `mlflow server` on this machine for the length of a `with` block; see `serve`."""
    uri, location = resolve(uri, artifact_location, home)
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise MissingError(f"no study was tracked at {path}: run `mixunlearn sweep EXPERIMENT`")
    if reason := reachable(uri):  # MLflow itself would try for minutes
        raise MixUnlearnError(f"{redact(uri)} does not answer: {reason}")
    port = _usable(port)
    with tempfile.TemporaryFile() as output:
        command = [sys.executable, "-P", "-m", "mlflow", "server", "--workers", "1"]
        process = subprocess.Popen(
            [
                *command,
                "--host",
                HOST,
                "--port",
                str(port),
                "--artifacts-destination",
                str(location),
            ],
            env=environment(uri),
            cwd=home if home.is_dir() else None,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us, and we end the whole group
        )
        running = Server(process, f"http://{HOST}:{port}", output)
        try:
            running.wait_until_ready()
            yield running
        finally:
            running.stop()


def environment(uri: str) -> dict[str, str]:
    """Return the server's environment; the address goes here: command lines are public."""
    lean = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # queues of jobs for language models
        "MLFLOW_UVICORN_OPTS": "--log-level warning",  # no line for each picture of each page
    }
    return {**DEFAULTS, **lean, **os.environ, "MLFLOW_BACKEND_STORE_URI": uri}


def _usable(port: int | None) -> int:
    """Return `port`, or a free one.

    Raises:
        InputError: it is in use, reserved or no port number.
    """
    if port is not None and not 0 < port <= LAST_PORT:
        raise InputError("port", port, f"choose one from 1 to {LAST_PORT}, or none for a free one")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((HOST, port or 0))
        except OSError as error:
            remedy = f"{one_line(error)}; choose another one, or none for a free one"
            raise InputError("port", port, remedy) from error
        free: int = probe.getsockname()[1]
    return free


def _answers(link: str) -> bool:
    try:
        # Past any proxy: it is this machine.
        with build_opener(ProxyHandler({})).open(link, timeout=2) as response:
            return bool(response.status == http.HTTPStatus.OK)
    except (URLError, OSError, http.client.HTTPException):
        return False


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
