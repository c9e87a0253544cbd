"""Processes that start with everything imported: forked from one that imported it once.

Sweeps of the tests and drills are short, and most of their time is the import of libraries: by the
command, and by each worker that Ray starts for it. Everything else runs as usual.

With TESTS_COLD=1, and on any system except Linux, every process is started normally, as users do:
the fork server needs `pidfd_open` and depends on private names of Ray.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.worker import COMMAND, LIBRARIES, LIMIT, PIPE, SHARED, WARM, WITH, WITHOUT

HERE = Path(__file__).resolve()
ROOT = HERE.parents[1]
# The command, started normally. A shell's background jobs ignore Ctrl-C; this command must not.
PLAIN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from mixunlearn.__main__ import main; sys.exit(main())"
)
# Ray's command, whose workers are forked.
RAY = "import sys; sys.executable = sys.argv.pop(1); from ray.scripts.scripts import main; main()"


def is_cold(platform: str, environment: Mapping[str, str]) -> bool:
    """Return whether every process starts normally: on request, or if nothing else works.

    Args:
        platform: as in `sys.platform`.
        environment: its TESTS_COLD is read; "" and "0" mean no.
    """
    return platform != "linux" or environment.get("TESTS_COLD", "") not in {"", "0"}


COLD = is_cold(sys.platform, os.environ)
PATIENCE = 3 if COLD else 1  # factor of all time limits, compared with a warm start
# Ray's command needs this in its environment, so that its workers are forks.
BY_PIPE: dict[str, str] = {} if COLD else PIPE


class Process:
    """A forked process, with the part of the interface of `subprocess.Popen` that is needed.

    Args:
        line: connection on which the server sends its process id, then its exit code.
    """

    def __init__(self, line: socket.socket) -> None:
        self.pid = int(line.recv(LIMIT) or b"0")
        if not self.pid:
            raise OSError("the process that forks the commands is gone")
        self.returncode: int | None = None
        self.over = threading.Event()
        threading.Thread(target=self._listen, args=(line,), daemon=True).start()

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; `None` while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        Raises:
            TimeoutExpired: it did not end in time.
        """
        if not self.over.wait(timeout):
            raise subprocess.TimeoutExpired(["mixunlearn"], timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def _listen(self, line: socket.socket) -> None:
        with line:
            self.returncode = int(line.recv(LIMIT) or -signal.SIGKILL)
        self.over.set()


class Parent:
    """The process that has imported everything and forks on request; started when first needed.

    All processes of a test session share one: those that run tests are forks of it themselves.

    Attributes:
        copying: whether commands copy a new MLflow database; in long drills they make each one.
    """

    def __init__(self) -> None:
        self.copying = False
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def python(self) -> str:
        """The program to give to Ray as Python, so that its workers are forks."""
        if shared := os.environ.get(SHARED):
            return shared
        with self._lock:
            self._folder = self._folder or self._start()
            return f"{self._folder.name}/python"

    @property
    def ready(self) -> str:
        """`python` where it runs already, as in `make test`; else Python: it starts slowly."""
        return self.python if SHARED in os.environ or self._folder else sys.executable

    @property
    def quick(self) -> list[str]:
        """Python that has imported libraries, but nothing of ours, if it is ready: add `-c`."""
        return [self.ready, *WARM]

    @property
    def ray(self) -> list[str]:
        """Ray's command, whose workers are forks; wants `BY_PIPE` in its environment."""
        return [sys.executable, "-c", RAY, self.python]

    def fork(
        self,
        words: Sequence[str],
        out: int,
        err: int,
        environment: Mapping[str, str],
        folder: Path = ROOT,
    ) -> Process:
        """Run the command or a script in a fork that leads its own session; it ends with us.

        Args:
            words: `COMMAND` or the path of a script, and its arguments.
            out, err: file descriptors of its standard output and error.
            environment: all of it.
            folder: where it runs.

        Raises:
            OSError: the parent is gone.
        """
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server = WITH if words[0] == COMMAND else WITHOUT
        line.connect(str(Path(self.python).with_name(server)))
        request = json.dumps([list(words), dict(environment), str(folder)]).encode()
        with Path(os.devnull).open() as nothing:
            socket.send_fds(line, [request], [nothing.fileno(), out, err])
        return Process(line)

    def close(self) -> None:
        """End the process, if it was started here, and its forks."""
        with self._lock:
            if self._server and self._folder:
                self._server.communicate()
                self._folder.cleanup()
                self._server = self._folder = None

    def _start(self) -> tempfile.TemporaryDirectory[str]:
        folder = tempfile.TemporaryDirectory(prefix="warm-", ignore_cleanup_errors=True)
        script = Path(folder.name) / "python"
        asking = (
            f"{sys.executable} -IS {HERE.with_name('worker.py')} {sys.executable} {folder.name}"
        )
        script.write_text(f'#!/bin/sh\nexec {asking} "$@"\n')
        script.chmod(0o755)
        with ExitStack() as stack:
            numbers = []
            for name in (WITH, WITHOUT, LIBRARIES):
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                stack.enter_context(listener)
                listener.bind(
                    f"{folder.name}/{name}"
                )  # before it is served, so that early requests wait
                listener.listen(100)
                numbers.append(listener.fileno())
            words = [sys.executable, "-m", "tests.fork_server", str(script), *map(str, numbers)]
            self._server = subprocess.Popen(
                [*words, str(int(self.copying))],
                pass_fds=numbers,
                cwd=ROOT,
                stdin=subprocess.PIPE,  # when it closes, the server ends
                start_new_session=True,
            )
        return folder


class Plain:
    """The interface of `Parent` without a fork server: each process is a new Python."""

    copying = False
    python = sys.executable
    quick = (sys.executable,)
    ray = (sys.executable, "-m", "ray.scripts.scripts")

    def fork(
        self,
        words: Sequence[str],
        out: int,
        err: int,
        environment: Mapping[str, str],
        folder: Path = ROOT,
    ) -> subprocess.Popen[bytes]:
        """Run the command or a script in a session of its own; see `Parent.fork`."""
        first, *others = words
        started = ["-c", PLAIN] if first == COMMAND else [first]
        return subprocess.Popen(
            [self.python, *started, *others],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )

    def close(self) -> None:
        """Nothing is left running here."""


PARENT: Parent | Plain = Plain() if COLD else Parent()
