"""Replaces Python where Ray or xdist starts it: requests a forked process instead of a new one.

It uses only the standard library. Its arguments are PYTHON, the folder with the sockets of the
processes that have imported everything, and the arguments for Python. It lives as long as the fork,
in the session in which it was started; if either of them ends, so does the other.
"""

import json
import os
import select
import socket
import sys
from pathlib import Path

LIMIT = 2**17  # bytes of a message; a message is never divided
JOB = "01000000"  # the first job of a Ray
WITH, WITHOUT = "ray", "no-ray"  # sockets for forks with Ray imported, or without
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
    script = next((word for word in words if word != "-u"), "")
    forked = (script.endswith(FORKED) and "/ray/" in script) or words == XDIST
    if script.endswith(SETUP):
        forked = any(word.endswith(WORKER) for word in words) and not any(map(commands, words))
    if not forked:
        os.execv(python, [python, *words])
    # Ray reads the job that it will work for when it is imported.
    address = WITH if os.environ.get("RAY_JOB_ID", JOB) == JOB else WITHOUT
    words = words[words.index(script) :]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(f"{folder}/{address}")
        request = json.dumps([words, dict(os.environ), str(Path.cwd())])
        socket.send_fds(line, [request.encode()], [0, 1, 2])
        ends = [line.fileno()]
        if script.endswith((SETUP, WORKER)):  # these must end when their raylet ends
            ends.append(os.pidfd_open(os.getppid()))
        line.recv(LIMIT)  # its process id
        ready, *_ = select.select(ends, [], [])
        ended = line.recv(LIMIT) if line.fileno() in ready else b""
    return int(ended or b"1") % 256


def commands(word: str) -> bool:
    """Return whether Ray's setup must run commands; one of them then requests the worker here."""
    told = json.loads(word.removeprefix(CONTEXT)) if word.startswith(CONTEXT) else {}
    return bool(told.get("command_prefix"))


if __name__ == "__main__":
    sys.exit(main())
