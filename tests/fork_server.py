"""The process that has imported everything, and forks on request.

`tests.warm` starts it, only on Linux. It depends on private names of Ray; with TESTS_COLD=1 it is
not used.
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
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from tests.worker import COMMAND, CONTEXT, JOB, LIMIT, PIPE, SHARED, XDIST

# What forks use. Much of it is imported late by the program itself, for a quick start: without
# these names each fork would import it anew.
LIBRARIES = (
    "aiohttp.web",
    "fsspec",
    "jsonschema",
    "mlflow.pyfunc",
    "mlflow.pytorch",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "msgpack",
    "optuna.importance",
    "pandas",
    "plotly.graph_objects",
    "plotly.offline",
    "pyarrow.dataset",
    "pyarrow.json",
    "pydantic.v1",
    "rich.progress",
    "scipy.special",
    "sklearn.compose",
    "sklearn.datasets",
    "sklearn.linear_model",
    "torch._inductor.ir",
    "torch.export._trace",
    "torchvision",
    "typer",
    "xgboost",
)
OURS = (
    "mixunlearn.references",
    "mixunlearn.data.sources",
    "mixunlearn.plugins",
    "mixunlearn.trial",
    "report.card",
    "report.leaderboard",
    "report.page",
    "search_spaces",
)
REGISTRIES = "mixunlearn.methods:METHODS", "mixunlearn.models:MODELS"
WITH_RAY = (
    "distributed.cli.app",
    "distributed.nightly.run",
    "distributed.search.sweep",
    "ray.dag",
    "ray.experimental.channel",
)
ROOT = Path(__file__).resolve().parents[1]
CODE: list[int | str | None] = []  # exit code of this process
AUTH = {"RAY_AUTH_MODE": "token"}  # as the command sets it before it imports Ray
LANGUAGE = "--language="  # option of Ray's setup, not of the worker


class Server:
    """The process that forks.

    Args:
        python: the program that Ray uses as Python in the forks.
        listener: socket to which clients connect to request a fork.
    """

    def __init__(self, python: str, listener: socket.socket) -> None:
        self.python, self.listener = python, listener
        self.asked: dict[int, socket.socket] = {}  # process id -> connection of its client
        self.selector = selectors.DefaultSelector()

    def serve(self) -> Callable[[], int]:
        """Fork on each request; return only in the forks, with the work that they must do."""
        gc.collect()
        gc.freeze()  # objects that are not collected are not copied in forks
        signal.signal(signal.SIGCHLD, lambda *_: self._reap())
        for waited in (self.listener, sys.stdin):
            self.selector.register(waited, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is sys.stdin:
                    self._end()
                    sys.exit()
                if key.fileobj is not self.listener:
                    with suppress(KeyError, ValueError):  # its fork has just ended
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
        # A client must not get the end of a process before its start.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid:
            self.asked[pid] = line
            self.selector.register(line, selectors.EVENT_READ)
            with suppress(OSError):  # the client is gone
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
        """End all forks, or the one whose client is gone."""
        for pid, line in list(self.asked.items()):
            if abandoned in (None, line):
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Report the ends of forks to their clients."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                line = self.asked.pop(ended[0], None)
                if line is None:  # it is the other server
                    continue
                with suppress(OSError):  # no client waits for it
                    line.send(str(os.waitstatus_to_exitcode(ended[1])).encode())
                with suppress(KeyError):  # the client is gone and already unregistered
                    self.selector.unregister(line)
                line.close()

    def _become(self, environment: Mapping[str, str], descriptors: Iterable[int]) -> None:
        """Make this process what a shell would have started."""
        os.setsid()
        os.environ.clear()
        os.environ.update({**PIPE, **AUTH, **environment, SHARED: self.python})
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        # As Python does when it starts. The server's own streams remember whether they can seek.
        for name, number in (("stdout", 1), ("stderr", 2)):
            stream = open(number, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
        if threads := environment.get("OMP_NUM_THREADS"):  # read only when PyTorch is imported
            importlib.import_module("torch").set_num_threads(int(threads))
        sys.modules.pop("sitecustomize", None)
        with suppress(ImportError):
            importlib.import_module("sitecustomize")
        if "ray" in sys.modules:  # Ray reads the environment only when it is imported
            reset = importlib.import_module("ray._private.authentication_test_utils")
            reset.reset_auth_token_state()


def _run(words: Sequence[str]) -> int:
    """Do what the process was forked for."""
    if words == XDIST[1:]:  # a process that runs tests
        exec(words[1], {"__name__": "__main__"})
        return 0
    sys.executable = os.environ[SHARED]
    if words[0] == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *words[2:]]
        sys.modules["__main__"] = alone = ModuleType("__main__")
        exec(words[1], alone.__dict__)
        return 0
    if kept_out := words[0] == "-P":
        words = words[1:]
    if words[0] == "-m":
        if not kept_out:
            sys.path.insert(0, str(Path.cwd()))
        sys.argv = list(words[1:])
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return 0
    sys.argv = list(words)
    if words[0] != COMMAND:
        if "/ray/" not in words[0]:
            sys.path.insert(0, str(Path(words[0]).resolve().parent))  # as Python does
        runpy.run_path(words[0], run_name="__main__")
        return 0
    from mixunlearn.__main__ import main  # noqa: PLC0415 - in the fork

    # A shell's background jobs ignore Ctrl-C; this command must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()


def _copy_databases(folder: Path) -> None:
    from distributed.tracking import server  # noqa: PLC0415 - takes seconds: in the server alone
    from tests.databases import Copies  # noqa: PLC0415

    server.make_database = copies = Copies(folder)
    copies.prepare()


def _read_package_files() -> None:
    """Let MLflow find the package of each module now, as it does for each model that it saves."""
    from mlflow.utils.requirements_utils import (  # noqa: PLC0415 - known when this is a server
        warn_dependency_requirement_mismatches,
    )

    warn_dependency_requirement_mismatches(["torch"])


def _set_up(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the environment that Ray's setup of a worker makes of a command."""
    kept, more = list(words), dict[str, str]()
    if kept[0].endswith("setup_worker.py"):
        del kept[0]
    for word in words:
        if word.startswith(CONTEXT):
            more |= json.loads(word.removeprefix(CONTEXT)).get("env_vars") or {}
    return [word for word in kept if not word.startswith((LANGUAGE, CONTEXT))], more


def _leave() -> None:
    """Exit without releasing what was imported: in a fork, releasing would copy it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    code = CODE[0] if CODE else 1
    os._exit(code if isinstance(code, int) else bool(code))


def main(
    python: str,
    with_ray: socket.socket,
    without: socket.socket,
    libraries: socket.socket,
    *,
    copying: bool,
) -> int:
    """Import everything, fork on each request, and do the work of the fork in each fork.

    Args:
        python: the program that Ray uses as Python in the forks.
        with_ray: socket for requests of forks that have Ray imported.
        without: socket for requests of other forks.
        libraries: socket for requests of forks that have imported nothing of ours.
        copying: see `tests.warm.Parent`.
    """
    # If MLflow is imported while no handler is set, it hides all messages except errors.
    logging.root.addHandler(handler := logging.NullHandler())
    for name in LIBRARIES:
        importlib.import_module(name)
    assert not {"mixunlearn", "distributed"} & sys.modules.keys()
    if os.fork() == 0:
        return Server(python, libraries).serve()()
    for name in OURS:
        importlib.import_module(name)
    from mixunlearn.lazy import load  # noqa: PLC0415 - the forks above must not have it

    for place in REGISTRIES:
        list(load(place).values())
    logging.root.removeHandler(handler)
    _read_package_files()
    if copying:
        _copy_databases(Path(python).parent)
    assert "ray" not in sys.modules
    if os.fork() == 0:
        return Server(python, without).serve()()
    # Ray reads these only when it is imported. Workers check whether their raylet is alive:
    # `tests.worker` does that for them.
    os.environ.update({**AUTH, "RAY_JOB_ID": JOB, "RAY_RAYLET_PID": str(os.getpid())})
    for name in WITH_RAY:
        importlib.import_module(name)
    return Server(python, with_ray).serve()()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    python, *numbers, copying = sys.argv[1:]
    sockets = [socket.socket(fileno=int(number)) for number in numbers]
    atexit.register(_leave)  # registered first, so it is called last
    try:
        CODE.append(main(python, *sockets, copying=copying == "1"))
    except SystemExit as error:
        CODE.append(error.code)
        raise
    sys.exit(CODE[0])
