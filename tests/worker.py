"""Stands where Ray starts Python: asks for a process that is forked, not started anew.

Run by `tests.warm` with the standard library alone: PYTHON, the address of the process that has
imported everything, and what Python was to be called with. It lives as long as the fork, in the
session in which Ray started it; where either ends, so does the other.
"""

import json
import os
import socket
import sys
from pathlib import Path

LIMIT = 2**17  # bytes of a message; a message is never divided
FORKED = (
    "/setup_worker.py",
    "/default_worker.py",
    "/runtime_env/agent/main.py",
    "/agent.py",
    "/dashboard.py",
    "/log_monitor.py",
    "/monitor.py",
)


def main() -> int:
    """Ask for the fork and wait for its end; call Python itself for all else."""
    python, address, *words = sys.argv[1:]
    script = next((word for word in words if word != "-u"), "")
    if not script.endswith(FORKED) or "/ray/" not in script:
        os.execv(python, [python, *words])
    words = words[words.index(script) :]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(address)
        request = json.dumps([words, dict(os.environ), str(Path.cwd())])
        socket.send_fds(line, [request.encode()], [0, 1, 2])
        ended = line.recv(LIMIT)
    return int(ended or b"1") % 256


if __name__ == "__main__":
    sys.exit(main())
