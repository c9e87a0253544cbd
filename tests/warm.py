"""Processes that begin with everything imported: forked from one that imported it once.

Sweeps of the tests and drills are short, and most of what one costs is the import of its libraries:
by the command, and by each worker that Ray starts for it. Of what they do themselves, nothing is
left out.
"""

import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from distributed import tracking
from tests.databases import Copies
from tests.worker import CONTEXT, JOB, LIMIT

LIBRARIES = (
    "aiohttp",
    "distributed.nightly",
    "distributed.sweep",
    "fsspec",
    "jsonschema",
    "mixunlearn.bank",
    "mixunlearn.data.sources",
    "mixunlearn.plugins",
    "mixunlearn.trial",
    "mlflow.pytorch",
    "mlflow.store.tracking.sqlalchemy_store",
    "msgpack",
    "optuna.importance",
    "pandas",
    "pyarrow.dataset",
    "report.card",
    "report.leaderboard",
    "report.page",
    "rich.progress",
    "scipy.special",
    "search_spaces",
    "sklearn.compose",
    "sklearn.datasets",
    "sklearn.linear_model",
    "torch.export._trace",
    "torchvision",
    "typer",
)
HERE = Path(__file__).resolve()
# Agents of a node hear of its end by their standard input, for a fork has another parent.
BY_PIPE = {"RAY_enable_pipe_based_agent_to_parent_health_check": "1"}
AUTH = {"RAY_AUTH_MODE": "token"}  # as the command has it, before it imports Ray
LANGUAGE = "--language="  # to Ray's setup, not to the worker


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
    """The process that has imported everything, and is asked to fork; started when first needed.

    Attributes:
        copying: whether commands copy MLflow's new database; in long drills they make each.
    """

    def __init__(self) -> None:
        self.copying = False
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._forked: dict[int, Process] = {}
        self._answered = threading.Semaphore(0)
        self._newest: Process | None = None

    @property
    def python(self) -> str:
        """What Ray, given it for Python, starts workers with that are forks."""
        with self._lock:
            self._line = self._line or self._start()
            assert self._folder
            return f"{self._folder.name}/python"

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

    def close(self) -> None:
        """End it, and the workers it has forked."""
        with self._lock:
            if self._line and self._folder:
                self._line.shutdown(socket.SHUT_RDWR)
                self._process.wait()
                self._folder.cleanup()
                self._line = self._folder = None

    def _start(self) -> socket.socket:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-", ignore_cleanup_errors=True)
        script = Path(self._folder.name) / "python"
        address = f"{self._folder.name}/workers"
        asking = f"{sys.executable} -IS {HERE.with_name('worker.py')} {sys.executable} {address}"
        script.write_text(f'#!/bin/sh\nexec {asking} "$@"\n')
        script.chmod(0o755)
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as workers:
            workers.bind(address)  # before it is served: who asks early waits
            workers.listen()
            lines = there.fileno(), workers.fileno()
            command = [sys.executable, "-m", "tests.warm"]
            self._process = subprocess.Popen(
                [*command, str(script), *map(str, (*lines, int(self.copying)))],
                pass_fds=lines,
                cwd=HERE.parents[1],
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
        line.close()
        self._newest = None
        for process in self._forked.values():
            process.ended(-signal.SIGKILL)
        self._answered.release()


PARENT = Parent()


class Server:
    """The process that forks.

    Args:
        python: what Ray takes for Python in the forks.
        line: on which commands are asked for; its end is the end of the server.
        workers: to which Ray's workers connect, each for its own.
        copying: see `Parent`.
    """

    def __init__(
        self, python: str, line: socket.socket, workers: socket.socket, *, copying: bool
    ) -> None:
        self.python, self.line, self.workers, self.copying = python, line, workers, copying
        self.asked: dict[int, socket.socket] = {}  # for the worker of this number
        self.selector = selectors.DefaultSelector()

    def serve(self) -> Callable[[], int]:
        """Fork whenever asked; returns, in the forks alone, what they are to do."""
        self._prepare()
        signal.signal(signal.SIGCHLD, lambda *_: self._reap())
        for asked in (self.line, self.workers):
            self.selector.register(asked, selectors.EVENT_READ, asked)
        while True:
            for key, _ in self.selector.select():
                line: socket.socket = key.data
                if line is self.line:
                    todo = self._command()
                elif line is self.workers:
                    todo = self._worker(line.accept()[0])
                else:
                    self._abandon(line)
                    continue
                if todo:
                    return todo

    def _prepare(self) -> None:
        """Do now what the forks need not do."""
        # Ray reads these when it is imported, and never again. Workers look whether their raylet
        # lives: `tests.worker` does so for them.
        os.environ.update({**AUTH, "RAY_JOB_ID": JOB, "RAY_RAYLET_PID": str(os.getpid())})
        for name in LIBRARIES:
            importlib.import_module(name)
        _read_package_files()
        if self.copying:
            tracking.make_database = copies = Copies(Path(self.python).parent)
            copies.prepare()
        gc.collect()
        gc.freeze()  # what is never collected is never copied either

    def _command(self) -> Callable[[], int] | None:
        request, descriptors, *_ = socket.recv_fds(self.line, LIMIT, 2)
        if not request:
            for number in list(self.asked):
                os.kill(number, signal.SIGKILL)
            sys.exit()
        words, environment = json.loads(request)
        pid = self._fork(lambda pid: self.line.send(json.dumps([pid, None]).encode()))
        if pid:
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        self._become(environment, zip(descriptors, (1, 2), strict=True))

        def run() -> int:
            from mixunlearn.__main__ import main  # noqa: PLC0415 - in the fork

            sys.argv = ["mixunlearn", *words]
            # A shell's background jobs ignore Ctrl-C; this command must not.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return main()

        return run

    def _worker(self, line: socket.socket) -> Callable[[], int] | None:
        request, descriptors, *_ = socket.recv_fds(line, LIMIT, 3)
        if not request:
            line.close()
            return None
        words, environment, folder = json.loads(request)

        def remember(pid: int) -> None:
            self.asked[pid] = line
            self.selector.register(line, selectors.EVENT_READ, line)

        if self._fork(remember):
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        line.close()
        words, more = _set_up(words)
        self._become({**environment, **more}, zip(descriptors, (0, 1, 2), strict=True))
        os.chdir(folder)

        def run() -> int:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
            return 0

        return run

    def _abandon(self, line: socket.socket) -> None:
        """End the worker whose place in Ray's session is empty."""
        self.selector.unregister(line)
        for pid, asked in list(self.asked.items()):
            if asked is line:
                os.kill(pid, signal.SIGKILL)

    def _fork(self, remember: Callable[[int], object]) -> int:
        # Nobody may hear of the end of a process before hearing of its start.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        if pid := os.fork():
            remember(pid)
        else:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.selector.close()
            for line in (self.line, self.workers, *self.asked.values()):
                line.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        return pid

    def _reap(self) -> None:
        """Tell of the ends of forks."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                code = os.waitstatus_to_exitcode(ended[1])
                line = self.asked.pop(ended[0], None)
                if line is None:
                    self.line.send(json.dumps([ended[0], code]).encode())
                    continue
                with suppress(OSError):  # nobody waits for it
                    line.send(str(code).encode())
                with suppress(KeyError):
                    self.selector.unregister(line)
                line.close()

    def _become(
        self, environment: Mapping[str, str], descriptors: Iterable[tuple[int, int]]
    ) -> None:
        """Make this process what a shell would have started."""
        os.setsid()
        os.environ.clear()
        os.environ.update({**BY_PIPE, **AUTH, **environment})
        for descriptor, target in descriptors:
            os.dup2(descriptor, target)
            os.close(descriptor)
        sys.executable = self.python
        # What Python does when it starts.
        sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
        sys.modules.pop("sitecustomize", None)
        with suppress(ImportError):
            importlib.import_module("sitecustomize")
        _tell_ray()


def _read_package_files() -> None:
    """Let MLflow find out which package each module is of, as it does for each model it saves."""
    from mlflow.utils.requirements_utils import (  # noqa: PLC0415 - known when this is a server
        warn_dependency_requirement_mismatches,
    )

    warn_dependency_requirement_mismatches(["torch"])


def _tell_ray() -> None:
    """Let Ray read the environment again, as it does when it is imported."""
    from ray._raylet import AuthenticationTokenLoader, Config  # noqa: PLC0415 - in the fork

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _set_up(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return what Ray's setup of a worker makes of a command: arguments, environment."""
    kept, more = list(words), dict[str, str]()
    if kept[0].endswith("setup_worker.py"):
        del kept[0]
    for word in words:
        if word.startswith(CONTEXT):
            more |= json.loads(word.removeprefix(CONTEXT)).get("env_vars") or {}
    return [word for word in kept if not word.startswith((LANGUAGE, CONTEXT))], more


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1]))
    python, *numbers, copying = sys.argv[1:]
    lines = [socket.socket(fileno=int(number)) for number in numbers]
    sys.exit(Server(python, *lines, copying=copying == "1").serve()())
