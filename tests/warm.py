"""Processes that begin with everything imported: forked from one that imported it once.

Sweeps of the tests and drills are short, and most of what one costs is the import of its libraries:
by the command, and by each worker that Ray starts for it. Of what they do themselves, nothing is
left out.
"""

import atexit
import gc
import importlib
import json
import logging
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
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.worker import CONTEXT, JOB, LIMIT, WITH, WITHOUT

LIBRARIES = (
    "aiohttp",
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
WITH_RAY = "distributed.nightly.run", "distributed.sweep"
HERE = Path(__file__).resolve()
ROOT = HERE.parents[1]
COMMAND = "mixunlearn"
SHARED = "TESTS_PYTHON"  # where forks find what stands for Python
CODE: list[int | str | None] = []  # with which this process ends
# Ray's command, whose workers are forked.
RAY = "import sys; sys.executable = sys.argv.pop(1); from ray.scripts.scripts import main; main()"
# Agents of a node hear of its end by their standard input, for a fork has another parent.
BY_PIPE = {"RAY_enable_pipe_based_agent_to_parent_health_check": "1"}
AUTH = {"RAY_AUTH_MODE": "token"}  # as the command has it, before it imports Ray
LANGUAGE = "--language="  # to Ray's setup, not to the worker


class Process:
    """A process that was forked; as far as needed, what `subprocess.Popen` is.

    Args:
        line: on which the server tells its number, then its end.
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
        """Send a signal, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def _listen(self, line: socket.socket) -> None:
        with line:
            self.returncode = int(line.recv(LIMIT) or -signal.SIGKILL)
        self.over.set()


class Parent:
    """The process that has imported everything, and is asked to fork; started when first needed.

    All processes of a test session share one: those that run tests are forks of it themselves.

    Attributes:
        copying: whether commands copy MLflow's new database; in long drills they make each.
    """

    def __init__(self) -> None:
        self.copying = False
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def python(self) -> str:
        """What Ray, given it for Python, starts workers with that are forks."""
        if shared := os.environ.get(SHARED):
            return shared
        with self._lock:
            self._folder = self._folder or self._start()
            return f"{self._folder.name}/python"

    @property
    def ray(self) -> list[str]:
        """Ray's command, whose workers are forks; wants `BY_PIPE` in its environment."""
        return [sys.executable, "-c", RAY, self.python]

    def fork(
        self, words: Sequence[str], out: int, err: int, environment: Mapping[str, str]
    ) -> Process:
        """Run the command in a fork that leads a session of its own, and ends with this process.

        Args:
            words: its arguments.
            out, err: file descriptors of its standard output and error.
            environment: all of it.

        Raises:
            OSError: the parent is gone.
        """
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line.connect(str(Path(self.python).with_name(WITH)))
        request = json.dumps([[COMMAND, *words], dict(environment), str(ROOT)]).encode()
        with Path(os.devnull).open() as nothing:
            socket.send_fds(line, [request], [nothing.fileno(), out, err])
        return Process(line)

    def close(self) -> None:
        """End it, if it was started here, and what it has forked."""
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
            for name in (WITH, WITHOUT):
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                stack.enter_context(listener)
                listener.bind(f"{folder.name}/{name}")  # before it is served: who asks early waits
                listener.listen(100)
                numbers.append(listener.fileno())
            words = [sys.executable, "-m", "tests.warm", str(script), *map(str, numbers)]
            self._server = subprocess.Popen(
                [*words, str(int(self.copying))],
                pass_fds=numbers,
                cwd=ROOT,
                stdin=subprocess.PIPE,  # its end is the end of the server
                start_new_session=True,
            )
        return folder


PARENT = Parent()


class Server:
    """The process that forks.

    Args:
        python: what Ray takes for Python in the forks.
        listener: to which everyone connects who wants a fork.
    """

    def __init__(self, python: str, listener: socket.socket) -> None:
        self.python, self.listener = python, listener
        self.asked: dict[int, socket.socket] = {}  # for the process of this number
        self.selector = selectors.DefaultSelector()

    def serve(self) -> Callable[[], int]:
        """Fork whenever asked; returns, in the forks alone, what they are to do."""
        gc.collect()
        gc.freeze()  # what is never collected is never copied either
        signal.signal(signal.SIGCHLD, lambda *_: self._reap())
        for waited in (self.listener, sys.stdin):
            self.selector.register(waited, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is sys.stdin:
                    self._end()
                    sys.exit()
                if key.fileobj is not self.listener:
                    with suppress(KeyError, ValueError):  # its fork has just ended by itself
                        self.selector.unregister(key.fileobj)
                    self._end(key.fileobj)
                elif todo := self._answer(self.listener.accept()[0]):
                    return todo

    def _answer(self, line: socket.socket) -> Callable[[], int] | None:
        request, descriptors, *_ = socket.recv_fds(line, LIMIT, 3)
        if not request:
            line.close()
            return None
        words, environment, folder = json.loads(request)
        # Nobody may hear of the end of a process before hearing of its start.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid:
            self.asked[pid] = line
            self.selector.register(line, selectors.EVENT_READ)
            with suppress(OSError):  # who asked is gone
                line.send(str(pid).encode())
        else:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.selector.close()
            for mine in (self.listener, line, *self.asked.values()):
                mine.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        if pid:
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        words, more = _set_up(words)
        self._become({**environment, **more}, descriptors)
        os.chdir(folder)
        return lambda: _run(words)

    def _end(self, abandoned: object = None) -> None:
        """End all forks, or the one whose place is empty: in Ray's session, in the tests."""
        for pid, line in list(self.asked.items()):
            if abandoned in (None, line):
                with suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Tell of the ends of forks."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                line = self.asked.pop(ended[0], None)
                if line is None:  # the other server
                    continue
                with suppress(OSError):  # nobody waits for it
                    line.send(str(os.waitstatus_to_exitcode(ended[1])).encode())
                with suppress(KeyError):  # whoever asked has gone
                    self.selector.unregister(line)
                line.close()

    def _become(self, environment: Mapping[str, str], descriptors: Iterable[int]) -> None:
        """Make this process what a shell would have started."""
        os.setsid()
        os.environ.clear()
        os.environ.update({**BY_PIPE, **AUTH, **environment, SHARED: self.python})
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        # What Python does when it starts.
        sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
        sys.modules.pop("sitecustomize", None)
        with suppress(ImportError):
            importlib.import_module("sitecustomize")
        if "ray" in sys.modules:  # it reads the environment when it is imported
            reset = importlib.import_module("ray._private.authentication_test_utils")
            reset.reset_auth_token_state()


def _run(words: Sequence[str]) -> int:
    """Do what the process was forked for."""
    if words[0] == "-c":  # xdist's, to run tests
        exec(words[1], {"__name__": "__main__"})
        return 0
    sys.executable = os.environ[SHARED]
    sys.argv = list(words)
    if words[0] != COMMAND:
        runpy.run_path(words[0], run_name="__main__")
        return 0
    from mixunlearn.__main__ import main  # noqa: PLC0415 - in the fork

    # A shell's background jobs ignore Ctrl-C; this command must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()


def _copy_databases(folder: Path) -> None:
    from distributed import tracking  # noqa: PLC0415 - takes seconds: in the server alone
    from tests.databases import Copies  # noqa: PLC0415

    tracking.make_database = copies = Copies(folder)
    copies.prepare()


def _read_package_files() -> None:
    """Let MLflow find out which package each module is of, as it does for each model it saves."""
    from mlflow.utils.requirements_utils import (  # noqa: PLC0415 - known when this is a server
        warn_dependency_requirement_mismatches,
    )

    warn_dependency_requirement_mismatches(["torch"])


def _set_up(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return what Ray's setup of a worker makes of a command: arguments, environment."""
    kept, more = list(words), dict[str, str]()
    if kept[0].endswith("setup_worker.py"):
        del kept[0]
    for word in words:
        if word.startswith(CONTEXT):
            more |= json.loads(word.removeprefix(CONTEXT)).get("env_vars") or {}
    return [word for word in kept if not word.startswith((LANGUAGE, CONTEXT))], more


def _leave() -> None:
    """End, when all is done but to let go of what was imported: in a fork that would copy it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    code = CODE[0] if CODE else 1
    os._exit(code if isinstance(code, int) else bool(code))


def main(python: str, with_ray: socket.socket, without: socket.socket, *, copying: bool) -> int:
    """Import everything, fork whenever asked, and in the forks do what they are for.

    Args:
        python: what Ray takes for Python in the forks.
        with_ray: where forks are asked for that have Ray imported.
        without: where others are.
        copying: see `Parent`.
    """
    # MLflow, imported where nothing handles messages, keeps all but errors from being seen.
    logging.root.addHandler(handler := logging.NullHandler())
    for name in LIBRARIES:
        importlib.import_module(name)
    logging.root.removeHandler(handler)
    _read_package_files()
    if copying:
        _copy_databases(Path(python).parent)
    assert "ray" not in sys.modules
    if os.fork() == 0:
        return Server(python, without).serve()()
    # Ray reads these when it is imported, and never again. Workers look whether their raylet
    # lives: `tests.worker` does so for them.
    os.environ.update({**AUTH, "RAY_JOB_ID": JOB, "RAY_RAYLET_PID": str(os.getpid())})
    for name in WITH_RAY:
        importlib.import_module(name)
    return Server(python, with_ray).serve()()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    python, *numbers, copying = sys.argv[1:]
    first, second = (socket.socket(fileno=int(number)) for number in numbers)
    atexit.register(_leave)  # the first one is the last to be called
    try:
        CODE.append(main(python, first, second, copying=copying == "1"))
    except SystemExit as error:
        CODE.append(error.code)
        raise
    sys.exit(CODE[0])
