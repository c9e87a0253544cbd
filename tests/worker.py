"""Replaces Python where Ray, xdist or a test starts it: requests a forked process, not a new one.

It uses only the standard library. Its arguments are PYTHON, the folder with the sockets of the
processes that have imported everything, and the arguments for Python. It lives as long as the fork,
in the session in which it was started; if either of them ends, so does the other.
"""

import json
import os
import select
import signal
import socket
import sys
from pathlib import Path

LIMIT = 2**17  # bytes of a message; a message is never divided
JOB = "01000000"  # the first job of a Ray
WITH, WITHOUT = "ray", "no-ray"  # sockets for forks with Ray imported, or without
LIBRARIES = "libraries"  # socket for forks that have imported libraries, but nothing of ours
WARM = ("-X", "warm")  # option of Python that asks for such a fork; Python itself ignores it
# This environment variable names modules, separated by spaces, that are such forks as well.
WARM_MODULES = "TESTS_WARM_MODULES"
COMMAND = "mixunlearn"  # the fork runs the command, not a script
SHARED = "TESTS_PYTHON"  # environment variable with the program that replaces Python
# Agents of a node notice its end through their standard input, because a fork has another parent.
PIPE = {"RAY_enable_pipe_based_agent_to_parent_health_check": "1"}
SETUP, WORKER = "/setup_worker.py", "/default_worker.py"
CONTEXT = "--serialized-runtime-env-context="  # option of Ray's setup
FORKED = (
    SETUP,
    WORKER,
    "/runtime_env/agent/main.py",
    "/agent.py",
    "/dashboard.py",
    "/log_monitor.py",
    "/monitor.py",
)
XDIST = ["-u", "-c", "import sys;exec(eval(sys.stdin.readline()))"]


def main() -> int:
    """Request the fork and wait for its end; run Python itself for everything else."""
    python, folder, *words = sys.argv[1:]
    if asked := warm(words):
        return fork(f"{folder}/{LIBRARIES}", asked, passes_signals=True)
    script = next((word for word in words if word != "-u"), "")
    forked = (script.endswith(FORKED) and "/ray/" in script) or words == XDIST
    if script.endswith(SETUP):
        forked = any(word.endswith(WORKER) for word in words) and not any(map(commands, words))
    if not forked:
        os.execv(python, [python, *words])
    # Ray reads the job that it will work for when it is imported.
    address = WITH if os.environ.get("RAY_JOB_ID", JOB) == JOB else WITHOUT
    words = words[words.index(script) :]
    # These must end when their raylet ends.
    return fork(f"{folder}/{address}", words, with_parent=script.endswith((SETUP, WORKER)))


def warm(words: list[str]) -> list[str]:
    """Return what a fork that has imported libraries must run; nothing if none was asked for."""
    if asked := tuple(words[:2]) == WARM:
        words = words[2:]
    asked |= words[:1] == ["-m"] and words[1] in os.environ.get(WARM_MODULES, "").split()
    return words if asked else []


def fork(
    address: str, words: list[str], *, with_parent: bool = False, passes_signals: bool = False
) -> int:
    """Request a fork and wait for its end; return its exit code, or die as it did.

    Args:
        address: socket of the server.
        words: what it runs.
        with_parent: whether it ends when the process that started this one ends.
        passes_signals: whether it gets the signals of this process; else it ends with it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(address)
        request = json.dumps([words, dict(os.environ), str(Path.cwd())])
        ends = [line.fileno()]
        if with_parent or words[1:2] == ["uvicorn"]:
            ends.append(os.pidfd_open(os.getppid()))
        socket.send_fds(line, [request.encode()], [0, 1, 2])
        pid = int(line.recv(LIMIT))
        if passes_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda given, _: os.kill(pid, given))
        ready, *_ = select.select(ends, [], [])
        ended = int((line.recv(LIMIT) if line.fileno() in ready else b"") or b"1")
    if passes_signals and ended < 0:
        if -ended in (signal.SIGTERM, signal.SIGINT):
            signal.signal(-ended, signal.SIG_DFL)
        os.kill(os.getpid(), -ended)
    return ended % 256


def commands(word: str) -> bool:
    """Return whether Ray's setup must run commands; one of them then requests the worker here."""
    told = json.loads(word.removeprefix(CONTEXT)) if word.startswith(CONTEXT) else {}
    return bool(told.get("command_prefix"))


if __name__ == "__main__":
    sys.exit(main())
