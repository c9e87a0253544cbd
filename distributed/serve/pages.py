"""Serves web pages: MLflow's UI, or Optuna's dashboard of one study. On 127.0.0.1 unless told."""

import contextlib
import errno
import http
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TypeAlias
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psutil

from distributed.runtime.addresses import REMOTE, resolve
from distributed.runtime.signals import terminated_as_interrupted
from distributed.runtime.text import one_line, redact
from distributed.tracking.locations import settled
from distributed.tracking.server import DEFAULTS, reachable, require_runs
from distributed.tracking.study_page import study_page
from mixunlearn.errors import InputError, MixUnlearnError

HOST = "127.0.0.1"  # makes MLflow refuse other host names, and frames in other sites
EVERYWHERE = "0.0.0.0"  # all addresses of this machine
START_S, GRACE_S, POLL_S = 120.0, 10.0, 0.1
LAST_PORT = 65535
RECORD_VARIABLE = (
    "MIXUNLEARN_RECORD"  # environment variable of the dashboard: the address of its study
)
ROOT = Path(__file__).resolve().parents[2]

Announce: TypeAlias = Callable[[str], None]


def serve(
    home: Path,
    uri: str,
    artifact_location: str | None,
    port: int | None,
    announce: Announce,
    *,
    study: str | None = None,
    host: str = HOST,
    base_path: str = "",
    say: Announce = lambda _: None,
) -> int:
    """Serve MLflow's UI until Ctrl-C or SIGTERM; for a tracking server, only give its address.

    Args:
        home: the home.
        uri: the tracking address.
        artifact_location: where the artifacts are; None: under the home.
        port: port on this machine; None: a free one.
        announce: called with the address of the study's page, once the server answers.
        study: name of the study to show; None: the one that was last active.
        host: address to listen on.
        base_path: first part of all paths, for a proxy that passes on only these.
        say: called with one line once all is checked, seconds before the server answers.

    Returns:
        The exit code, 0.

    Raises:
        InputError: the port or the base path is not usable, or there is no such study.
        MissingError: nothing has been tracked yet.
        MixUnlearnError: MLflow did not start, or ended unexpectedly.
    """
    if uri.startswith(REMOTE):
        announce(f"{redact(uri).rstrip('/')}{study_page(uri, study)}")
        return 0
    pages = server(home, uri, artifact_location, port, host=host, base_path=base_path, say=say)
    return _serve(pages, announce, lambda running: study_page(running.link, study))


def serve_dashboard(
    study: str,
    record: str,
    port: int | None,
    announce: Announce,
    *,
    say: Announce = lambda _: None,
) -> int:
    """Serve Optuna's dashboard of a study, read-only, until Ctrl-C or SIGTERM.

    Args:
        study: name of the study.
        record: address of its record.
        port: port on this machine; None: a free one.
        announce: called with the link, once the server answers.
        say: called with one line once all is checked, seconds before the server answers.

    Returns:
        The exit code, 0.

    Raises:
        InputError: the port is not available.
        MixUnlearnError: the record does not answer, or the dashboard ended unexpectedly.
    """
    return _serve(dashboard(study, record, port, say=say), announce)


class Server:
    """A running web server: its process (leader of its own group), link and output.

    Args:
        name: name of the server, for messages.
        process: process of the server.
        link: link to the first page.
        health: path that answers once the server is ready.
        output: file with everything that the server has printed.
    """

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        link: str,
        health: str,
        output: IO[bytes],
    ) -> None:
        self.name, self.process, self.link = name, process, link
        self._health, self._output = health, output

    def last_line(self) -> str:
        """Return the last printed line with an error, else the last line; without passwords."""
        file = self._output.fileno()  # shared with the server: do not move its position
        lines = os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        errors = [line for line in said if "Error: " in line or "Exception: " in line]
        return redact([*(said or ["it printed nothing"]), *errors][-1])

    def wait_until_ready(self) -> None:
        """Wait until the server answers.

        Raises:
            MixUnlearnError: it ended, or did not answer within two minutes.
        """
        deadline = time.monotonic() + START_S
        while not _answers(f"{self.link}{self._health}"):
            if self.process.poll() is not None:
                raise MixUnlearnError(f"{self.name} did not start: {self.last_line()}")
            if time.monotonic() > deadline:
                raise MixUnlearnError(f"{self.name} does not answer: {self.last_line()}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Terminate the server's process group; kill it after a while or at a second Ctrl-C."""
        _signal(self.process.pid, signal.SIGTERM)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_S)
        finally:
            # Always: children may go on after their leader has ended, and would keep the port.
            _signal(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def server(
    home: Path,
    uri: str,
    artifact_location: str | None,
    port: int | None,
    *,
    host: str = HOST,
    base_path: str = "",
    say: Announce = lambda _: None,
) -> Iterator[Server]:
    """Run `mlflow server` on this machine for the length of a `with` block; see `serve`."""
    uri, location = resolve(uri, artifact_location, home)
    require_runs(uri)
    port = _usable(port, host)
    if base_path and (not base_path.startswith("/") or base_path.endswith("/")):
        raise InputError("base-path", base_path, "begin it with a slash and end it without one")
    # One user: each further worker takes the memory of a whole MLflow.
    words = ["--workers", "1", "--host", host, "--port", str(port)]
    words += ["--static-prefix", base_path] if base_path else []
    with (
        settled(uri) as database,
        _running(
            "MLflow's server",
            ["-m", "mlflow", "server", *words, "--artifacts-destination", str(location)],
            link=f"http://{HOST if host == EVERYWHERE else host}:{port}{base_path}",
            health="/health",
            # The user's own settings win.
            environ={**names(host, port), **environment(database)},
            folder=home if home.is_dir() else None,
            say=say,
        ) as running,
    ):
        yield running


@contextlib.contextmanager
def dashboard(
    study: str, record: str, port: int | None, *, say: Announce = lambda _: None
) -> Iterator[Server]:
    """Run Optuna's dashboard on this machine for the length of a `with` block."""
    # A journal is a plain file: there is no database that could answer.
    if not record.startswith("journal:") and (reason := reachable(record, reading=True)):
        raise MixUnlearnError(f"{redact(record)} does not answer: {reason}")
    port = _usable(port)
    # `-P` keeps the checkout off the path.
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    with _running(
        "Optuna's dashboard",
        ["-m", "distributed.serve.optuna_dashboard", study, HOST, str(port)],
        link=f"http://{HOST}:{port}",
        health="/api/meta",
        environ={
            **os.environ,
            RECORD_VARIABLE: record,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        },
        folder=None,
        say=say,
    ) as running:
        yield running


@contextlib.contextmanager
def _running(
    name: str,
    words: Sequence[str],
    *,
    link: str,
    health: str,
    environ: Mapping[str, str],
    folder: Path | None,
    say: Announce,
) -> Iterator[Server]:
    """Run a Python server for the length of a `with` block, which starts once it answers.

    Secrets go into its environment, because other users can see command lines.
    """
    say(f"{name} is starting, which takes some seconds")
    # Not a pipe: nobody reads it, and a server that prints into a full pipe stops.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            # -P: a `random.py` in the home must not replace the module of that name.
            [*_python(), "-P", *words],
            env=environ,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us, and we end the whole group
        )
        running = Server(name, process, link, health, output)
        try:
            running.wait_until_ready()
            yield running
        finally:
            running.stop()


def _python() -> list[str]:
    """Return the words that start Python."""
    return [sys.executable]


def _serve(
    pages: AbstractContextManager[Server],
    announce: Announce,
    path: Callable[[Server], str] = lambda _: "",
) -> int:
    """Serve pages until Ctrl-C or SIGTERM; return the exit code.

    Args:
        pages: the server.
        announce: called with the page's address once the server answers.
        path: gives the path of the page to announce.

    Raises:
        MixUnlearnError: the server ended unexpectedly.
    """
    with (
        # Otherwise SIGTERM would end us alone: the server is in a session of its own.
        terminated_as_interrupted(),
        contextlib.suppress(KeyboardInterrupt),
        pages as running,
    ):
        announce(f"{running.link}{path(running)}")
        running.process.wait()
        # Reached only if the server ends by itself: Ctrl-C raises in `wait`.
        raise MixUnlearnError(f"{running.name} ended: {running.last_line()}")
    return 0


def names(host: str, port: int) -> dict[str, str]:
    """Return MLflow's settings for an address that others reach; empty for this machine alone.

    Without them, MLflow answers to no name but `localhost` and private addresses, and refuses
    every search that a page sends from another address than that.
    """
    if host == HOST:
        return {}
    found = {host}
    if host == EVERYWHERE:
        cards = itertools.chain.from_iterable(psutil.net_if_addrs().values())
        found = {each.address for each in cards if each.family == socket.AF_INET}
        found |= {HOST, "localhost", socket.gethostname()}
    hosts = sorted(f"{name}:{port}" for name in found)
    return {
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{each}" for each in hosts),
    }


def environment(uri: str) -> dict[str, str]:
    """Return the server's environment; it holds the address, which may contain a password."""
    lean = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # job queues for language models
        "MLFLOW_UVICORN_OPTS": "--log-level warning",  # no line for each request
    }
    # The user's own settings win, except for the address.
    return {**DEFAULTS, **lean, **os.environ, "MLFLOW_BACKEND_STORE_URI": uri}


def _usable(port: int | None, host: str = HOST) -> int:
    """Return `port`, or a free one.

    Raises:
        InputError: it is in use, reserved or not a port number, or the machine has no such host.
    """
    if port is not None and not 0 < port <= LAST_PORT:
        raise InputError("port", port, f"choose one from 1 to {LAST_PORT}, or leave it out")
    # Another program may still take it before the server does; the server then says so.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((host, port or 0))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                remedy = "no address of this machine; leave it out for 127.0.0.1"
                raise InputError("host", host, remedy) from error
            remedy = f"{one_line(error)}; choose another one, or leave it out for a free one"
            raise InputError("port", port, remedy) from error
        free: int = probe.getsockname()[1]
    return free


def _answers(link: str) -> bool:
    try:
        # Without a proxy, because the server is on this machine.
        with build_opener(ProxyHandler({})).open(link, timeout=2) as response:
            return bool(response.status == http.HTTPStatus.OK)
    except (URLError, OSError, http.client.HTTPException):
        return False


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
