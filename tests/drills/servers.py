"""Servers of a drill, only on this machine: processes in sessions that can be killed."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.drills.process import DrillError, end, members, name_of
from tests.warm import PATIENCE

START_S = 60.0 * PATIENCE


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port on which no process listens."""
    with socket.socket() as found:
        found.bind((host, 0))
        port: int = found.getsockname()[1]
    return port


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a process listens."""
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


class Server:
    """A process, with all its children, that listens on a port.

    Args:
        words: the command.
        port: port that it will listen on.
        log: file for its output.
        host: address that it will listen on.
        options: options of `subprocess.Popen`.
    """

    def __init__(
        self,
        words: Sequence[str],
        port: int,
        log: Path,
        host: str = "127.0.0.1",
        **options: Any,
    ) -> None:
        self.words, self.port, self.log, self.host, self.options = words, port, log, host, options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            DrillError: it does not listen in time.
        """
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.options,
            )
        deadline = time.monotonic() + START_S
        while not answers(self.port, self.host):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise DrillError(f"{self.words[0]} did not start, see {self.log}")
            time.sleep(0.1)

    def stop(self, number: signal.Signals) -> None:
        """Signal the process and wait for its end; the rest of its session is killed."""
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for pid in members(self.process.pid):
            end(pid)
        self.process.wait()
        self.process = None

    def pids(self, name: str) -> list[int]:
        """Return the ids of its processes with a name."""
        assert self.process
        return [pid for pid in members(self.process.pid) if name_of(pid) == name]


def put_over(environment: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with some variables overridden."""
    return {**os.environ, **environment}
