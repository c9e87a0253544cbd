"""Stands where Ray or xdist starts Python: asks for a process that is forked, not started again.

Run by `tests.warm` with the standard library alone: PYTHON, the folder where those processes are
asked that have imported everything, and what Python was to be called with. It lives as long as the
fork, in the session in which it was started; where either ends, so does the other.
"""

import json
import os
import select
import socket
import sys
from pathlib import Path

LIMIT = 2**17  # bytes of a message; a message is never divided
JOB = "01000000"  # the first of a Ray
WITH, WITHOUT = "ray", "no-ray"  # where forks are asked for that have Ray imported, or have not
COMMAND = "mixunlearn"  # a fork that is to be the command, not a script
SHARED = "TESTS_PYTHON"  # where forks find what stands for Python
# Agents of a node hear of its end by their standard input, for a fork has another parent.
PIPE = {"RAY_enable_pipe_based_agent_to_parent_health_check": "1"}
SETUP, WORKER = "/setup_worker.py", "/default_worker.py"
CONTEXT = "--serialized-runtime-env-context="  # to Ray's setup
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
    """Ask for the fork and wait for its end; call Python itself for all else."""
    python, folder, *words = sys.argv[1:]
    script = next((word for word in words if word != "-u"), "")
    forked = (script.endswith(FORKED) and "/ray/" in script) or words == XDIST
    if script.endswith(SETUP):
        forked = any(word.endswith(WORKER) for word in words) and not any(map(commands, words))
    if not forked:
        os.execv(python, [python, *words])
    # When Ray is imported, it takes note of the job it will work for.
    address = WITH if os.environ.get("RAY_JOB_ID", JOB) == JOB else WITHOUT
    words = words[words.index(script) :]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(f"{folder}/{address}")
        request = json.dumps([words, dict(os.environ), str(Path.cwd())])
        socket.send_fds(line, [request.encode()], [0, 1, 2])
        ends = [line.fileno()]
        if script.endswith((SETUP, WORKER)):  # they end with their raylet
            ends.append(os.pidfd_open(os.getppid()))
        line.recv(LIMIT)  # its number
        ready, *_ = select.select(ends, [], [])
        ended = line.recv(LIMIT) if line.fileno() in ready else b""
    return int(ended or b"1") % 256


def commands(word: str) -> bool:
    """Return whether Ray's setup is told to run commands; one of them asks here for the worker."""
    told = json.loads(word.removeprefix(CONTEXT)) if word.startswith(CONTEXT) else {}
    return bool(told.get("command_prefix"))


if __name__ == "__main__":
    sys.exit(main())
