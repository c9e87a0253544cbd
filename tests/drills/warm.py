"""Processes that begin with everything imported: forked from one that imported it once.

A drill starts the command some three hundred times, and a third of what a short sweep costs is
the import of its libraries. Of what the command does itself, nothing is left out.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LIBRARIES = (
    "distributed.cli",
    "distributed.sweep",
    "mlflow.pytorch",
    "mlflow.store.tracking.sqlalchemy_store",
    "report.page",
    "sklearn.datasets",
    "torch.export._trace",
)
LIMIT = 2**17  # bytes of a message; a message is never divided


class Process:
    """A process that was forked; as far as needed, what `subprocess.Popen` is."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.over = threading.Event()

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
        """Send a signal, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def ended(self, code: int) -> None:
        """Take note of the end."""
        self.returncode = code
        self.over.set()


class Parent:
    """The process that has imported everything, and is asked to fork; started when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._forked: dict[int, Process] = {}
        self._answered = threading.Semaphore(0)
        self._newest: Process | None = None

    def fork(
        self, words: Sequence[str], out: int, err: int, environment: Mapping[str, str]
    ) -> Process:
        """Run the command in a fork that leads a session of its own.

        Args:
            words: its arguments.
            out, err: file descriptors of its standard output and error.
            environment: all of it.

        Raises:
            OSError: the parent is gone.
        """
        with self._lock:
            self._line = self._line or self._start()
            request = json.dumps([list(words), dict(environment)]).encode()
            socket.send_fds(self._line, [request], [out, err])
            self._answered.acquire()
            if self._newest is None:
                raise OSError("the process that forks the commands is gone")
            return self._newest  # it may have ended already, and is then no longer among the forked

    def _start(self) -> socket.socket:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = Path(__file__).resolve().parents[2]
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(there.fileno())],
                pass_fds=[there.fileno()],
                cwd=root,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        threading.Thread(target=self._listen, args=(here,), daemon=True).start()
        return here

    def _listen(self, line: socket.socket) -> None:
        while message := line.recv(LIMIT):
            pid, code = json.loads(message)
            if code is None:
                self._newest = self._forked[pid] = Process(pid)
                self._answered.release()
            else:
                self._forked.pop(pid).ended(code)
        self._newest = None
        for process in self._forked.values():
            process.ended(-signal.SIGKILL)
        self._answered.release()


PARENT = Parent()


def serve(line: socket.socket) -> None:
    """Import everything, then fork whenever asked; returns in the forks alone.

    The arguments of the command are then in `sys.argv`.
    """
    os.environ["RAY_AUTH_MODE"] = "token"  # as the command sets it before it imports Ray
    for name in LIBRARIES:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, lambda *_: _reap(line))
    while True:
        request, descriptors, *_ = socket.recv_fds(line, LIMIT, 2)
        if not request:
            sys.exit()
        # Nobody may hear of the end of a process before hearing of its start.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid:
            line.send(json.dumps([pid, None]).encode())
        else:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            line.close()
            words, environment = json.loads(request)
            _become(words, environment, descriptors)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        if not pid:
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _reap(line: socket.socket) -> None:
    """Tell of the ends of forks."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            line.send(json.dumps([ended[0], os.waitstatus_to_exitcode(ended[1])]).encode())


def _become(words: list[str], environment: dict[str, str], descriptors: Sequence[int]) -> None:
    """Make this process what a shell would have started."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for target, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor, target)
        os.close(descriptor)
    sys.argv = ["mixunlearn", *words]


if __name__ == "__main__":
    from mixunlearn.__main__ import CHECKOUT, main

    sys.path.insert(0, str(CHECKOUT))
    serve(socket.socket(fileno=int(sys.argv[1])))
    # A shell's background jobs ignore Ctrl-C; this command must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
